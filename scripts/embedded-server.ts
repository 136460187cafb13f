// The checkout's own server on the embedded model, on a free port and in a temporary folder, for the checks.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packageRoot } from "../server/package-root.ts";
import { withServer } from "./server-process.ts";

/** @param flags further flags of `cotenant serve` */
export async function withEmbeddedServer(
  flags: readonly string[],
  use: (url: string) => Promise<void>,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "cotenant-check-"));
  const cache = flags.includes("--cache") ? [] : ["--cache", join(folder, "cache")];
  const folders = ["--data", join(folder, "data"), ...cache];
  const args = ["server/cotenant.js", "serve", "--port", "0", ...folders, ...flags];
  try {
    await withServer({ command: process.execPath, args, cwd: packageRoot, environment: process.env }, use);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
