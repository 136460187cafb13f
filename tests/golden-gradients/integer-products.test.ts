// Products of integers with the frozen matrices: gradients of every family against those with float32 products, on bases
// of every encoding; and what must not depend on windows, on what is kept, or on changes of the base.

import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { adapterTargets } from "../../kernels/model-family.ts";
import type { MatrixEncoding } from "../../kernels/prepare/layout.ts";
import { randomAt } from "../../kernels/sampling/random.ts";
import { type BlockMatrix, blockCoding } from "../../kernels/training/integer-blocks.ts";
import { rowCoding } from "../../kernels/training/integer-rows.ts";
import { IntegerWeights } from "../../kernels/training/integer-weights.ts";
import { layerInputs, matrixNames } from "../../kernels/training/layer-names.ts";
import { LowRankParameters, onEveryProjection } from "../../kernels/training/low-rank-parameters.ts";
import type { Precision } from "../../kernels/training/precision.ts";
import { PreparedWeights } from "../../kernels/training/prepared-weights.ts";
import { type OpenTrainingDevice, openHostDevice } from "../../kernels/training/training-device.ts";
import {
  type TrainingBase,
  TrainingKernel,
  type TrainingKernelOptions,
} from "../../kernels/training/training-kernel.ts";
import { temporaryCache } from "../golden/golden-case.ts";
import { skipsRowCoding } from "../measured-processor.ts";
import { goldenGradientNames, goldenGradients } from "./golden-gradients.ts";
import { openTrainingBase } from "./training-base.ts";
import { relativeError, type Weighted, weightedLoss } from "./weighted-loss.ts";

type Errors = { readonly median: number; readonly largest: number };

/**
 * Relative by norm, of the gradient tensors: on the trained model, and on random ones of 64 columns, which make more of
 * every difference. Rows of 256 values have larger steps than blocks of 128.
 */
const tolerances = {
  blocks: { trained: { median: 0.05, largest: 0.12 }, random: { median: 0.15, largest: 0.45 } },
  rows: { trained: { median: 0.07, largest: 0.16 }, random: { median: 0.15, largest: 0.45 } },
} as const satisfies Record<string, Record<"trained" | "random", Errors>>;
const codings = { blocks: blockCoding, rows: rowCoding } as const;
/** Every so many families are tried: what differs between them does not differ between codings. */
const familyStride = { blocks: 1, rows: 4 } as const satisfies Record<keyof typeof codings, number>;
/** Sums in another order round some values to the next integer. */
const windowTolerance: Errors = { median: 0.03, largest: 0.08 };
const lossTolerance = 0.01;

const cacheDirectory = temporaryCache();
const checkpoints = join(import.meta.dirname, "..", "golden", "cases");
const trainedModel = join(import.meta.dirname, "..", "..", "models", "tiny");
const encodings: readonly MatrixEncoding[] = ["float32", "int8", "int4"];

for (const coding of ["blocks", "rows"] as const) {
  const skip = coding === "rows" && skipsRowCoding;
  for (const encoding of encodings) {
    test(`the trained model, ${encoding}, ${coding}`, { skip }, async (t) => {
      const base = await openTrainingBase(trainedModel, cacheDirectory, encoding);
      await compare(t, { base, coding, batch: randomBatch(base), kind: "trained" });
    });
  }
  for (const [index, name] of goldenGradientNames().entries()) {
    if (index % familyStride[coding] !== 0) continue;
    const encoding = encodings[index % encodings.length]!;
    test(`${name}, ${encoding}, ${coding}`, { skip }, async (t) => {
      const { base, golden } = await open(name, encoding);
      const batch = { parameters: golden.parameters, sequences: [golden] };
      await compare(t, { base, coding, batch, kind: "random" });
    });
  }
}

test("an integer base multiplies with what it serves with", async () => {
  for (const encoding of ["int8", "int4"] as const) {
    const { base } = await open("gemma3", encoding);
    const prepared = new PreparedWeights(base.layout, base.dataPath, 0);
    for (const layer of base.layout.layers) {
      const weights = new IntegerWeights(prepared, layer, blockCoding);
      const matrices = matrixNames.map((name) => weights.matrix(layerInputs.weight(name)) as BlockMatrix);
      for (const [index, name] of matrixNames.entries()) {
        const stored = prepared.quantizedRows(layer[name], 0, layer[name].rows)!;
        assert.deepEqual(matrices[index]!.stored, stored);
      }
    }
    await prepared.close();
  }
});

test("a pass that changes the base has no products of integers", async () => {
  const { base, golden } = await open("qwen3", "float32");
  const delta = {
    layer: 0,
    projection: "up",
    indices: Uint32Array.of(3, 77),
    values: Float32Array.of(0.5, -1),
  } as const;
  const kernel = await TrainingKernel.open(base, { threads: 1 });
  const sequence = { tokenIds: golden.tokenIds, scored: [1] };
  const inIntegers = { modules: [delta], train: false, precision: "int8" } as const;
  assert.throws(() => kernel.pass([sequence], inIntegers), /goes through them in float32/);
  await kernel.close();
});

test("a device without integer products says so", async () => {
  const { base } = await open("qwen3", "float32");
  const openDevice: typeof openHostDevice = (...args) => ({ ...openHostDevice(...args), integers: null });
  const kernel = await TrainingKernel.open(base, { threads: 1, openDevice });
  const inIntegers = { modules: [], train: true, precision: "int8" } as const;
  assert.throws(() => kernel.pass([{ tokenIds: [1, 2], scored: [1] }], inIntegers), {
    code: "training_unsupported",
  });
  await kernel.close();
});

async function open(name: string, encoding: MatrixEncoding) {
  const base = await openTrainingBase(join(checkpoints, name), cacheDirectory, encoding);
  return { base, golden: goldenGradients(name, adapterTargets(base.config)) };
}

type Compared = {
  readonly base: TrainingBase;
  readonly coding: keyof typeof codings;
  readonly batch: Batch;
  readonly kind: "trained" | "random";
};
type Batch = { readonly parameters: LowRankParameters; readonly sequences: readonly Weighted[] };

async function compare(t: TestContext, { base, coding, batch, kind }: Compared): Promise<void> {
  const openDevice: OpenTrainingDevice = (opened, options) =>
    openHostDevice(opened, { ...options, coding: codings[coding] });
  const run = async (precision: Precision, options: Partial<TrainingKernelOptions> = {}) => {
    const kernel = await TrainingKernel.open(base, { threads: 1, openDevice, ...options });
    const result = await weightedLoss(kernel, batch, batch.sequences, precision);
    await kernel.close();
    return result;
  };
  const exact = await run("float32");
  const whole = await run("int8");
  const lossError = Math.abs(whole.loss - exact.loss) / exact.loss;
  const errors = errorsOf(whole.gradients, exact.gradients);
  t.diagnostic(`loss ${lossError}, gradients ${JSON.stringify(errors)}`);
  assert.ok(lossError <= lossTolerance);
  assert.ok(errors.median > 1e-3, "the products were of float32");
  assertWithin(errors, tolerances[coding][kind]);
  for (const windowTokens of kind === "trained" ? [5] : [1, 5, 22]) {
    const cut = await run("int8", { windowTokens });
    const difference = errorsOf(cut.gradients, whole.gradients);
    t.diagnostic(`windows of ${windowTokens}: ${JSON.stringify(difference)}`);
    assertWithin(difference, windowTolerance);
  }
  const kept = await run("int8", { keptBytes: 1e9, widenedBytes: 1e9 });
  assert.deepEqual(kept.gradients.flat, whole.gradients.flat, "kept instead of recomputed");
}

/** An adapter on everything, and two sequences of any tokens. */
function randomBatch({ config }: TrainingBase): Batch {
  const shapes = onEveryProjection(config.layers, { rank: 4, scale: 2 });
  const parameters = new LowRankParameters(shapes, adapterTargets(config));
  for (let i = 0; i < parameters.flat.length; i++) parameters.flat[i] = 0.1 * (randomAt(1, i) - 0.5);
  const sequences = [40, 23].map((length) => ({
    tokenIds: Array.from({ length }, (_, at) => Math.floor(randomAt(length, at) * config.vocabSize)),
    weights: Array.from({ length }, (_, at) => (at < length / 2 ? 0 : 1)),
  }));
  return { parameters, sequences };
}

function errorsOf(found: LowRankParameters, expected: LowRankParameters): Errors {
  const errors = found.modules.flatMap(({ a, b }, index) => {
    const other = expected.modules[index]!;
    return [relativeError(a, other.a), relativeError(b, other.b)];
  });
  errors.sort((one, other) => one - other);
  return { median: errors[errors.length >> 1]!, largest: errors.at(-1)! };
}

function assertWithin(errors: Errors, tolerance: Errors): void {
  assert.ok(errors.median <= tolerance.median && errors.largest <= tolerance.largest, JSON.stringify(errors));
}
