// Where this package lies, in a checkout (server/) and installed (dist/server/), and what its package.json says.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const packageRoot = fileURLToPath(
  new URL(import.meta.url.endsWith(".ts") ? ".." : "../..", import.meta.url),
);

export function packageVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8"));
  if (typeof manifest === "object" && manifest !== null && "version" in manifest)
    return String(manifest.version);
  throw new Error(`${packageRoot}package.json has no version`);
}
