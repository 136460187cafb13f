import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import fc from "fast-check";
import type { CheckpointArray, JobCheckpoint } from "../../finetuning/job.ts";
import { watched } from "../../tests/watched-fixture.ts";
import { JobCheckpoints } from "./job-checkpoints.ts";

function folder(context: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "cotenant-checkpoints-"));
  context.after(() => rmSync(directory, { recursive: true }));
  return directory;
}

const arrays: fc.Arbitrary<CheckpointArray> = fc.oneof(
  fc.float32Array({ maxLength: 9 }),
  fc.float64Array({ maxLength: 9 }),
  fc.uint8Array({ maxLength: 9 }),
  fc.uint32Array({ maxLength: 9 }),
) as fc.Arbitrary<CheckpointArray>;

const anyCheckpoint: fc.Arbitrary<JobCheckpoint> = fc.record({
  step: fc.nat(1e9),
  values: fc.dictionary(fc.string(), fc.double()),
  arrays: fc.dictionary(fc.string(), arrays),
});

const small = (step: number): JobCheckpoint => ({
  step,
  values: { a: step / 3 },
  arrays: { x: Float32Array.of(step, 2), y: Uint8Array.of(7) },
});

test("what is read is what was written, to the bit", async (context) => {
  const checkpoints = new JobCheckpoints(folder(context));
  await fc.assert(
    fc.asyncProperty(anyCheckpoint, async (checkpoint) => {
      await checkpoints.remove("ftjob-1");
      await checkpoints.write("ftjob-1", checkpoint);
      const found = (await checkpoints.read("ftjob-1")).checkpoint!;
      assert.equal(found.step, checkpoint.step);
      for (const part of ["values", "arrays"] as const) {
        assert.deepEqual(Object.entries(found[part]), Object.entries(checkpoint[part]));
      }
      for (const [name, array] of Object.entries(checkpoint.arrays)) {
        const bytes = (of: CheckpointArray) => Buffer.from(of.buffer, of.byteOffset, of.byteLength);
        assert.ok(bytes(found.arrays[name]!).equals(bytes(array)));
      }
    }),
    { numRuns: 60 },
  );
});

test("a large checkpoint is written out of its own memory, and other requests have their turns meanwhile", async (context) => {
  const checkpoints = new JobCheckpoints(folder(context));
  const names = Array.from({ length: 64 }, (_, index) => `array ${index}`);
  const large: JobCheckpoint = {
    step: 1,
    values: {},
    arrays: Object.fromEntries(names.map((name, index) => [name, new Float32Array(2 ** 17).fill(index)])),
  };
  const { sizeBytes, turns, grownBytes } = await watched(async () => ({
    sizeBytes: await checkpoints.write("ftjob-1", large),
  }));
  assert.ok(sizeBytes > 2 ** 25);
  assert.ok(turns > 16, `${turns} turns`);
  assert.ok(grownBytes < sizeBytes / 8, `${grownBytes} bytes`);
  assert.deepEqual((await checkpoints.read("ftjob-1")).checkpoint, large);
});

test("the newest two stay; a damaged one gives way to the one before, whatever is damaged", async (context) => {
  const directory = folder(context);
  const checkpoints = new JobCheckpoints(directory);
  for (const step of [2, 4, 10]) await checkpoints.write("ftjob-1", small(step));
  const names = readdirSync(join(directory, "ftjob-1")).sort();
  assert.deepEqual(names, ["step-0000000004.checkpoint", "step-0000000010.checkpoint"]);
  const newest = join(directory, "ftjob-1", names[1]!);
  const content = readFileSync(newest);
  for (let at = 0; at < content.length; at++) {
    const changed = Buffer.from(content);
    changed[at] = changed[at]! ^ 0x10;
    writeFileSync(newest, changed);
    const { checkpoint, damaged } = await checkpoints.read("ftjob-1");
    assert.deepEqual([checkpoint?.step, damaged], [4, [names[1]]], `byte ${at}`);
  }
  for (const length of [0, 5, 39, 41, content.length - 1]) {
    writeFileSync(newest, content);
    truncateSync(newest, length);
    assert.equal((await checkpoints.read("ftjob-1")).checkpoint?.step, 4);
  }
  for (const name of names) writeFileSync(join(directory, "ftjob-1", name), "");
  const { checkpoint, damaged } = await checkpoints.read("ftjob-1");
  assert.deepEqual([checkpoint, damaged.length], [null, 2]);
  assert.deepEqual(readdirSync(join(directory, "ftjob-1")), []);
});

test("a checkpoint of another format is refused and stays", async (context) => {
  const directory = folder(context);
  const checkpoints = new JobCheckpoints(directory);
  await checkpoints.write("ftjob-1", small(2));
  const path = join(directory, "ftjob-1", readdirSync(join(directory, "ftjob-1"))[0]!);
  const content = Buffer.from(
    readFileSync(path).toString("latin1").replace('"format":1', '"format":7'),
    "latin1",
  );
  content.set(createHash("sha256").update(content.subarray(32)).digest());
  writeFileSync(path, content);
  for (let read = 0; read < 2; read++) {
    await assert.rejects(checkpoints.read("ftjob-1"), {
      code: "checkpoint_format_unknown",
      message: /format 7/,
    });
  }
});

test("another job's file is none, half a file is none, and what nobody wants goes", async (context) => {
  const directory = folder(context);
  const checkpoints = new JobCheckpoints(directory);
  await checkpoints.write("ftjob-1", small(2));
  await checkpoints.write("ftjob-2", small(4));
  const [name] = readdirSync(join(directory, "ftjob-1"));
  writeFileSync(join(directory, "ftjob-2", name!), readFileSync(join(directory, "ftjob-1", name!)));
  writeFileSync(join(directory, "ftjob-2", "step-0000000009.checkpoint.partial"), "half");
  const found = await checkpoints.read("ftjob-2");
  assert.deepEqual([found.checkpoint?.step, found.damaged], [4, []]);
  await checkpoints.removeAllBut((id) => id === "ftjob-2");
  assert.deepEqual(readdirSync(directory), ["ftjob-2"]);
  assert.equal((await checkpoints.read("ftjob-1")).checkpoint, null);
});
