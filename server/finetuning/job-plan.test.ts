import assert from "node:assert/strict";
import { test } from "node:test";
import type { ServedModel } from "../../scheduler/protocol.ts";
import { smallStart } from "../../tests/training-job-fixture.ts";
import { neededMemory } from "./job-plan.ts";

const shape = { in: 16, out: 16 };
const targets = {
  layers: 1,
  shapes: { q: shape, k: shape, v: shape, o: shape, gate: shape, up: shape, down: shape },
  hiddenSize: 16,
  vocabSize: 64,
  kvHeads: 1,
  headDim: 16,
};
const needed = (trainingBaseBytes: number, trainingMemoryBytes = Number.MAX_SAFE_INTEGER) =>
  neededMemory(smallStart({}), {
    model: { targets, trainingBaseBytes } as unknown as ServedModel,
    trainingMemoryBytes,
  });

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
