// Kills a process that adds adapters, at random moments, and checks what the next one finds.
// Run with an argument, this file is that process.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { DecodePool } from "./decode-pool.ts";
import { fixtureTargets, writePeft } from "./peft-fixture.ts";
import { openAdapterStore } from "./store.ts";

const kills = 20;
const ids = 5;

const [root, round] = process.argv.slice(2);
if (root !== undefined) await addUntilKilled(root, Number(round));
else test("kill -9 at any moment leaves whole versions, and every acknowledged one", killAndCheck);

/** Prints an id and a version after each acknowledged addition. */
async function addUntilKilled(directory: string, seed: number): Promise<never> {
  const store = await open(directory);
  for (let i = 1; ; i++) {
    const path = writePeft(join(directory, "source"), { config: { lora_alpha: seed / 100 + i * 1e-5 } });
    const { id, version } = await store.add({ id: `a${i % ids}`, source: { kind: "directory", path } });
    process.stdout.write(`${id} ${version}\n`);
  }
}

async function killAndCheck(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "cotenant-crash-"));
  const pool = new DecodePool();
  const acknowledged = new Map<string, string>(); // the last version of each id
  const superseded = new Set<string>();
  try {
    for (let kill = 1; kill <= kills; kill++) {
      const lines = await runAndKill(directory, kill);
      const store = await open(directory, pool);
      assert.deepEqual(readdirSync(join(directory, "store", "quarantine")), []);
      for (const line of lines) {
        const [id, version] = line.split(" ") as [string, string];
        superseded.add(acknowledged.get(id) ?? "");
        acknowledged.set(id, version);
      }
      for (const [id, version] of acknowledged) {
        const found = store.get(id)?.version ?? "";
        // A version that was published but not yet acknowledged may be there instead, an older one may not.
        assert.ok(found === version || !superseded.has(found), `${id} lost ${version}`);
      }
      for (const { id, version } of store.list()) {
        assert.equal((await store.decode(version)).modules.length, 3);
        acknowledged.set(id, version);
      }
    }
    assert.ok(acknowledged.size > 0, "something was acknowledged");
  } finally {
    await pool.close();
    rmSync(directory, { recursive: true });
  }
}

/** Kills the child some random time after its first acknowledgement; gives the lines that it printed. */
function runAndKill(directory: string, round: number): Promise<string[]> {
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), directory, String(round)], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, NODE_TEST_CONTEXT: undefined },
  });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    if (output === "") setTimeout(() => child.kill("SIGKILL"), Math.random() * 60);
    output += text;
  });
  return new Promise((resolve) => {
    child.on("close", () => resolve(output.split("\n").slice(0, -1)));
  });
}

function open(directory: string, pool?: DecodePool) {
  return openAdapterStore({
    directory: join(directory, "store"),
    targets: fixtureTargets,
    baseFingerprint: "base",
    ...(pool === undefined ? {} : { pool }),
  });
}
