// install.mjs in a small checkout of its own, with an `npm` that only says what it was asked.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { type TestContext, test } from "node:test";

const nodePackage = { version: process.version.slice(1) };
const otherPlatform = { version: "1.0.0", optional: true, os: ["plan9"] };

type Packages = Record<string, { version: string; optional?: boolean; os?: string[] }>;

function checkout(
  context: TestContext,
  { locked, installed }: { locked: Packages; installed?: Packages },
): string {
  const root = mkdtempSync(join(tmpdir(), "cotenant-install-"));
  context.after(() => rmSync(root, { recursive: true }));
  for (const folder of ["scripts", "bin", "node_modules/node/bin"])
    mkdirSync(join(root, folder), { recursive: true });
  copyFileSync(join(import.meta.dirname, "install.mjs"), join(root, "scripts", "install.mjs"));
  writeFileSync(join(root, "package-lock.json"), JSON.stringify({ packages: { "": {}, ...locked } }));
  writeFileSync(join(root, "node_modules", "node", "package.json"), JSON.stringify(nodePackage));
  symlinkSync(process.execPath, join(root, "node_modules", "node", "bin", "node"));
  if (installed !== undefined) {
    for (const path of Object.keys(installed)) mkdirSync(join(root, path), { recursive: true });
    writeFileSync(join(root, "node_modules", ".package-lock.json"), JSON.stringify({ packages: installed }));
  }
  return root;
}

function install(root: string, npm: string) {
  writeFileSync(join(root, "bin", "npm"), `#!/bin/sh\n${npm}\n`);
  chmodSync(join(root, "bin", "npm"), 0o755);
  const path = [join(root, "bin"), dirname(process.execPath), process.env.PATH].join(delimiter);
  const script = join(root, "scripts", "install.mjs");
  return spawnSync(process.execPath, [script], { encoding: "utf8", env: { ...process.env, PATH: path } });
}

const complete: Packages = { "node_modules/node": nodePackage, "node_modules/left": { version: "1.0.0" } };

const cases: Record<string, { locked: Packages; installed?: Packages; reason: RegExp | null }> = {
  "nothing is missing": {
    locked: { ...complete, "node_modules/elsewhere": otherPlatform },
    installed: complete,
    reason: null,
  },
  "nothing is installed": { locked: complete, reason: /first run/ },
  "a version changed": {
    locked: { ...complete, "node_modules/left": { version: "1.0.1" } },
    installed: complete,
    reason: /left changed/,
  },
  "a package is new": {
    locked: { ...complete, "node_modules/right": { version: "1.0.0" } },
    installed: complete,
    reason: /right changed/,
  },
  "node_modules was copied from another platform": {
    locked: { ...complete, "node_modules/elsewhere": otherPlatform },
    installed: { ...complete, "node_modules/elsewhere": otherPlatform },
    reason: /another platform/,
  },
};

for (const [name, { reason, ...packages }] of Object.entries(cases)) {
  test(name, { skip: process.platform === "win32" }, (context) => {
    const root = checkout(context, packages);
    const { status, stderr } = install(root, `echo "$@" > ${root}/asked`);
    assert.equal(status, 0, stderr);
    if (reason === null) assert.equal(stderr, "");
    else assert.match(stderr, reason);
  });
}

test("offline: npm's words, then the remedy", { skip: process.platform === "win32" }, (context) => {
  const root = checkout(context, { locked: complete });
  const { status, stderr } = install(root, "echo 'npm error code ENOTFOUND' >&2; exit 1");
  assert.equal(status, 1);
  assert.match(stderr, /npm error code ENOTFOUND\n\nnpm cannot reach its registry/);
});
