// What a user of the npm package gets: packs, installs the tarball in an empty folder, runs the command there.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packageRoot, packageVersion } from "../server/package-root.ts";
import { askServer, withServer } from "./server-process.ts";

const folder = mkdtempSync(join(tmpdir(), "cotenant-package-"));
const environment = {
  ...process.env,
  ONNXRUNTIME_NODE_INSTALL: "skip", // its script would fetch CUDA libraries
  XDG_DATA_HOME: join(folder, "data"),
  XDG_CACHE_HOME: join(folder, "cache"),
};

function run(command: string, args: readonly string[], cwd: string): string {
  return execFileSync(command, args, {
    cwd,
    env: environment,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
}

try {
  const packed = run("npm", ["pack", "--silent", "--pack-destination", folder], packageRoot);
  const tarball = packed.trim().split("\n").at(-1)!;
  writeFileSync(join(folder, "package.json"), '{ "private": true }\n');
  run("npm", ["install", "--no-audit", "--no-fund", "--loglevel=error", `./${tarball}`], folder);
  assert.equal(run("npx", ["--no-install", "cotenant", "--version"], folder).trim(), packageVersion());
  const command = join(folder, "node_modules", ".bin", "cotenant");
  await withServer({ command, args: ["serve", "--port", "0"], cwd: folder, environment }, askServer);
  console.log(`package check: ${tarball} installs, serves and stops`);
} finally {
  rmSync(folder, { recursive: true });
}
