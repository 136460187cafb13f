// The memory of a job as stated, against what a process grows by, and what it must depend on.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { DecodedAdapter } from "../kernels/adapter.ts";
import { grownAndStated } from "../tests/grown-memory-fixture.ts";
import { examplesOf, smallSpec } from "../tests/training-job-fixture.ts";
import type { TrainingSpec } from "./job.ts";
import { methods } from "./methods/index.ts";
import { jobMemory, trainingMemory } from "./training-memory.ts";

test("a process grows by about what is stated", async (t) => {
  const { grown, stated } = await grownAndStated({ method: { name: "lora", settings: { rank: 2 } } }, t);
  assert.ok(grown < 1.25 * stated && stated < 4 * grown);
});

// SmolLM2-135M's shapes.
const shape = (input: number, out: number) => ({ in: input, out });
const targets = {
  layers: 30,
  hiddenSize: 576,
  vocabSize: 49152,
  kvHeads: 3,
  headDim: 64,
  shapes: {
    q: shape(576, 576),
    k: shape(576, 192),
    v: shape(576, 192),
    o: shape(576, 576),
    gate: shape(576, 1536),
    up: shape(576, 1536),
    down: shape(1536, 576),
  },
};
const memoryOf = (spec: Partial<TrainingSpec>, longestTokens = 256) =>
  trainingMemory({ ...smallSpec, passTokens: 512, windowTokens: 128, ...spec }, { targets, longestTokens });

const numbersOf = (settings: TrainingSpec["method"]["settings"]) =>
  methods.lora.size(settings, { targets, from: null });

test("adalora's averages and the product that passes see count", () => {
  const rank = 64;
  const fixed = numbersOf({ rank });
  const adalora = numbersOf({ rank, rank_allocation: "adalora" });
  assert.equal(adalora.trained, fixed.trained + 30 * 7 * rank); // singular values
  assert.equal(adalora.frozen, fixed.trained + 2 * adalora.trained);
});

test("eva's products of inputs, its components and ranks that go to wide modules count", () => {
  const rank = 8;
  const plain = numbersOf({ rank });
  const eva = numbersOf({ rank, initializer: "eva" });
  assert.equal(plain.preparing, 0);
  const products = 3 * 576 ** 2 + 1536 ** 2; // of what one layer reads
  const components = 30 * (rank + 8) * (3 * 576 + 1536);
  assert.ok(eva.preparing >= products + components);
  assert.equal(eva.trained, plain.trained);
  const spread = numbersOf({ rank, initializer: "eva", eva_rho: 2 });
  assert.equal(spread.trained, 30 * rank * 2 * (3 * (576 + 1536) + 0.5 * (576 + 576)));
  const small = { passTokens: 16, windowTokens: 16 };
  const bytes = (settings: TrainingSpec["method"]["settings"]) =>
    memoryOf({ ...small, method: { name: "lora", settings } }, 16).bytes;
  const own = { rank: 1, target_modules: ["q_proj"] };
  assert.ok(bytes({ ...own, initializer: "eva" }) > bytes(own) + 4 * 0.5 * products);
});

test("what a checkpoint copies counts, once to be kept and once to be served", () => {
  const sgd = { name: "sgd", settings: {} } as const;
  const narrow = { passTokens: 16, windowTokens: 16, optimizer: sgd };
  const bytesOf = (settings: TrainingSpec["method"]["settings"]) =>
    memoryOf({ ...narrow, method: { name: "lora", settings: { rank: 64, ...settings } } }, 16).bytes;
  const fixed = numbersOf({ rank: 64 });
  const adalora = numbersOf({ rank: 64, rank_allocation: "adalora" });
  const averages = 4 * 2 * adalora.trained; // which a checkpoint has, too
  const without = 4 * (2 * adalora.frozen + (3 + 1 + 2) * (adalora.trained - fixed.trained));
  assert.ok(bytesOf({ rank_allocation: "adalora" }) - bytesOf({}) >= without + averages);
});

test("what opening a job would refuse, its size refuses", () => {
  const own = { layer: 0, projection: "q", b: new Float32Array(576) } as const;
  const channels: DecodedAdapter = { modules: [{ kind: "channels", channels: Uint32Array.of(0), ...own }] };
  for (const name of ["lora", "mezo", "sparse-mezo", "sparse"] as const) {
    assert.throws(() => methods[name].size({}, { targets, from: channels }), /continues adapters of/, name);
  }
  const lora: DecodedAdapter = {
    modules: [
      {
        kind: "low-rank",
        layer: 0,
        projection: "q",
        rank: 4,
        a: new Float32Array(4 * 576),
        b: new Float32Array(4 * 576),
      },
    ],
  };
  assert.throws(() => methods.s2ft.size({}, { targets, from: lora }), /continues adapters of/);
  const adalora = { rank_allocation: "adalora", adalora_target_rank: 8 };
  assert.throws(() => numbersOf({ ...adalora, rank: 8 }), /average rank of 8/);
  assert.throws(() => methods.lora.size(adalora, { targets, from: lora }), /average rank of 4/);
  assert.throws(() => numbersOf({ layers: "lisa", layers_per_step: 30 }), /30 layers/);
});

test("a token of a pass costs the inputs of each layer's halves, keys and values", () => {
  const { bytesPerToken } = memoryOf({});
  const kept = 4 * 30 * (2 * 576 + 2 * 192);
  assert.ok(bytesPerToken >= kept);
  assert.ok(bytesPerToken < 1.3 * kept);
  const more = memoryOf({ passTokens: 2048 }).bytes - memoryOf({}).bytes;
  assert.equal(more, (2048 - 512) * bytesPerToken);
});

test("an example that is longer than a pass counts whole", () => {
  assert.ok(memoryOf({}, 4096).bytes > memoryOf({ passTokens: 4096 }, 256).bytes);
});

test("products of integers take two bytes for each weight of the base's layers, and their scales", () => {
  const weights = 30 * (2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536);
  const more = memoryOf({ precision: "int8" }).bytes - memoryOf({}).bytes;
  assert.ok(more > 2 * weights && more < 3 * weights, `${more / weights} a weight`);
});

test("moments in 8 bits, and steps without gradients, take less", () => {
  const rank = { method: { name: "lora", settings: { rank: 64 } } } as const;
  const whole = memoryOf(rank);
  const bytes = memoryOf({ ...rank, optimizer: { ...smallSpec.optimizer, name: "adamw-8bit" } });
  const forward = memoryOf({ method: { name: "mezo", settings: { rank: 2 } } });
  assert.ok(bytes.bytes < whole.bytes);
  assert.ok(forward.bytesPerToken < whole.bytesPerToken / 8);
});

test("a preference pair counts as one example, and examples count by their bytes", () => {
  const sequence = (length: number) => {
    const weights = Array.from({ length }, (_, at) => Math.min(at, 1));
    return { tokens: weights.map(() => 1), weights };
  };
  const training = examplesOf([900, 1000, 200, 100].map(sequence));
  const dpo = { ...smallSpec, objective: { name: "dpo", beta: 0.1 } } as const;
  const bytesOf = (spec: TrainingSpec) =>
    jobMemory({ spec, training, validation: null, from: null }, targets).bytes;
  const ownBytes = 4 * (2 * 2200 + 4) + 2 * 4 * 4; // the examples, and two orders of them
  const stated = (spec: TrainingSpec, longestTokens: number) =>
    trainingMemory(spec, { targets, longestTokens }).bytes + ownBytes;
  assert.equal(bytesOf(dpo), stated(dpo, 1900));
  assert.equal(bytesOf(smallSpec), stated(smallSpec, 1000));
});
