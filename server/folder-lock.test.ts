import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { lockFolder } from "./folder-lock.ts";

const root = mkdtempSync(join(tmpdir(), "cotenant-lock-"));
after(() => rmSync(root, { recursive: true }));
const refusal = (owner: number | "unknown") => new Error(`held by ${owner}`);

test("a running owner keeps the folder, a dead one does not, and release removes the lock", async () => {
  const folder = join(root, "data");
  const owner = spawn(process.execPath, ["-e", "setTimeout(() => {}, 60000)"]);
  await once(owner, "spawn");
  writeFileSync(`${folder}.lock`, String(owner.pid));
  await assert.rejects(lockFolder(folder, refusal), { message: `held by ${owner.pid}` });
  owner.kill("SIGKILL");
  await once(owner, "exit");
  const lock = await lockFolder(folder, refusal);
  assert.ok(existsSync(`${folder}.lock`));
  await lock[Symbol.asyncDispose]();
  assert.ok(!existsSync(`${folder}.lock`));
});
