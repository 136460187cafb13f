import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { runQuietly } from "./run-quietly.ts";

test("lines go to the file, and where the program fails, the end of them into the error", () => {
  const folder = mkdtempSync(join(tmpdir(), "peers-"));
  const log = join(folder, "log");
  try {
    runQuietly(["sh", "-c", "echo said; echo complained >&2"], log);
    assert.equal(readFileSync(log, "utf8"), "said\ncomplained\n");
    assert.throws(() => runQuietly(["sh", "-c", "echo why; exit 3"], log), /status 3.*\/log:\nwhy/s);
    assert.throws(() => runQuietly(["no-such-program-here"], log), /ENOENT/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
