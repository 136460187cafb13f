import assert from "node:assert/strict";
import { test } from "node:test";
import type { ServedModel } from "../../scheduler/protocol.ts";
import { smallStart } from "../../tests/training-job-fixture.ts";
import { fittedJob } from "./job-plan.ts";

const shape = { in: 16, out: 16 };
const targets = {
  layers: 1,
  shapes: { q: shape, k: shape, v: shape, o: shape, gate: shape, up: shape, down: shape },
  hiddenSize: 16,
  vocabSize: 64,
  kvHeads: 1,
  headDim: 16,
};
const parts = (trainingBaseBytes: number, trainingMemoryBytes = Number.MAX_SAFE_INTEGER) => ({
  model: { targets, trainingBaseBytes } as unknown as ServedModel,
  trainingMemoryBytes,
});
const needed = (...memory: Parameters<typeof parts>) =>
  fittedJob(smallStart({}), undefined, parts(...memory)).memory;

test("what a device holds of the base for training counts, and a refusal names it", () => {
  const { bytes } = needed(0);
  assert.equal(needed(1000).bytes, bytes + 1000);
  assert.equal(needed(1000, bytes + 1000).bytes, bytes + 1000);
  assert.throws(() => needed(1000, bytes + 999), {
    code: "training_does_not_fit",
    message: new RegExp(
      `^training would take ${bytes + 1000} bytes \\(1000 of them the base's weights, .* ${bytes + 999} of`,
    ),
  });
  assert.throws(() => needed(0, bytes - 1), {
    message: new RegExp(`^training would take ${bytes} bytes, more`),
  });
});

test("a window that nobody asked for is halved until the job fits; one that was asked for is not", () => {
  const job = (windowTokens: number) => smallStart({ passTokens: 512, windowTokens });
  const bytesOf = (windowTokens: number) => fittedJob(job(windowTokens), windowTokens, parts(0)).memory.bytes;
  const fitting = (memoryBytes: number) => fittedJob(job(512), undefined, parts(0, memoryBytes));
  assert.equal(fitting(bytesOf(512)).spec.windowTokens, 512);
  const halved = fitting(bytesOf(512) - 1);
  assert.equal(halved.spec.windowTokens, 256);
  assert.equal(halved.memory.bytes, bytesOf(256));
  assert.equal(fitting(bytesOf(64)).spec.windowTokens, 64);
  assert.throws(() => fitting(bytesOf(64) - 1), { code: "training_does_not_fit" });
  assert.throws(() => fittedJob(job(512), 512, parts(0, bytesOf(512) - 1)), {
    code: "training_does_not_fit",
  });
});
