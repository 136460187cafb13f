import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { readOptions } from "./options.ts";

const read = (...args: string[]) => readOptions(args)!;

test("everything by default, and what --quick leaves of it where no flag says otherwise", () => {
  const all = read();
  assert.deepEqual(all.bits, [4, 8]);
  assert.equal(all.cells.length, 12);
  const quick = read("--quick", "--bits", "8");
  assert.deepEqual([quick.shapes, quick.bits, quick.rounds], [["smollm2-135m"], [8], 1]);
  assert.equal(quick.cells.length, 4); // 8 clients with each use of adapters, and prefill
  assert.equal(readOptions(["--help"]), null);
});

test("--goals and --only leave cells, or are refused with what there is", () => {
  assert.deepEqual(
    read("--goals", "--only", "each").cells.map(({ name }) => name),
    ["8 clients, an adapter each", "16 clients, an adapter each"],
  );
  assert.throws(() => read("--only", "nine clients"), /no cell is left.*1 client, no adapter;/s);
});

test("what is wrong is refused with the flag and what it takes", () => {
  assert.throws(() => read("--contestants", "vllm"), /--contestants: vllm is none of cotenant, llama-server/);
  assert.throws(() => read("--contestants", ""), /--contestants names nothing/);
  assert.throws(() => read("--shapes", "gpt"), /--shapes: gpt is none of .*smollm2-135m/);
  assert.throws(() => read("--bits", "16"), /neither 4 nor 8/);
  assert.throws(() => read("--clients", "17"), /from 1 to 16/);
  assert.throws(() => read("--rounds", "0"), /from 1 to 99/);
  assert.throws(() => read("--round", "1"), /--round/);
  assert.throws(() => read("--join", "/nowhere.json"), /--join.*nowhere.json.*--json wrote/s);
});

test("files to join are read before anything else happens", () => {
  const folder = mkdtempSync(join(tmpdir(), "peers-"));
  try {
    const file = join(folder, "run.json");
    const run = { headers: [], settings: {}, results: [] };
    writeFileSync(file, JSON.stringify(run));
    assert.deepEqual(read("--join", `${file},${file}`).joined, [run, run]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
