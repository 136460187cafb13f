// EVA (Paischer et al., arXiv 2410.07170): A starts as the directions in which a projection's inputs differ most over the
// training data, B at zero, and ranks go where they explain most of the inputs' variance. Inputs are centred, as PEFT's
// are.

import { type AdapterTargets, type Projection, projections } from "../../kernels/adapter.ts";
import { mix } from "../../kernels/sampling/random.ts";
import {
  type ActivationPass,
  type LayerMoments,
  type ReadMatrix,
  readMatrices,
} from "../../kernels/training/activation-pass.ts";
import { LowRankParameters, type ModuleShape } from "../../kernels/training/low-rank-parameters.ts";
import { cut, type TrainingSequence } from "../../kernels/training/token-layout.ts";
import type { TrainingUnit } from "../../kernels/training/training-pass.ts";
import { shuffling } from "../example-order.ts";
import { checkSettings, idleWith, type Settings, type SettingsTable } from "../settings.ts";
import { type Components, leastCosine, principalComponents, spareRows } from "./eva-components.ts";
import { redistributed } from "./eva-ranks.ts";
import type { Initializer } from "./low-rank/initializers.ts";
import type { MethodContext } from "./method.ts";
import { ownSettings } from "./own-settings.ts";

const idle = idleWith("initializer", "zero-b");

export const evaSettings = {
  eva_rho: {
    kind: "number",
    default: 1,
    min: 1,
    max: 16,
    help: "eva: how many times its rank a module may get where ranks are spread by explained variance; 1 = they are not",
    idle,
  },
  eva_tau: {
    kind: "number",
    default: 0.99,
    min: 0,
    max: 1,
    help: "eva: cosine from which on a layer's directions count as settled from one batch to the next",
    idle,
  },
} as const satisfies SettingsTable;

/** Directions settle long before; what is left would only cost time. */
const maxTokens = 8192;

const readBy: Readonly<Record<Projection, ReadMatrix>> = {
  q: "qkv",
  k: "qkv",
  v: "qkv",
  o: "o",
  gate: "gate",
  up: "gate",
  down: "down",
};

type LayerComponents = ReadonlyMap<ReadMatrix, Components>;

function settingsOf(given: Settings) {
  return checkSettings(evaSettings, ownSettings(given, evaSettings), "method.adapter");
}

const start: Initializer["start"] = function* (context, shapes) {
  const { targets, kernel, spec } = context;
  const { eva_rho: rho, eva_tau: tau } = settingsOf(spec.method.settings);
  const pass = kernel.activations(yield* batchesOf(context), spec.windowTokens);
  const layers: LayerComponents[] = Array.from({ length: targets.layers }, () => new Map());
  yield* pass.layers(function* (layer, moments) {
    const counts = countsOf(shapes, layer, rho);
    const before = layers[layer]!;
    const seed = mix(spec.seed + layer);
    const components = yield* layerComponents({ pass, moments, counts, before, seed });
    layers[layer] = components;
    return settled(before, components, { counts: countsOf(shapes, layer, 1), tau });
  });
  const componentsOf = ({ layer, projection }: ModuleShape) => layers[layer]!.get(readBy[projection])!;
  const explained = (shape: ModuleShape) => componentsOf(shape).explained.subarray(0, mostRanks(shape, rho));
  const chosen = rho === 1 ? shapes : redistributed(shapes, explained);
  const parameters = new LowRankParameters(chosen, targets);
  for (const [index, { a }] of parameters.modules.entries()) {
    a.set(componentsOf(chosen[index]!).rows.subarray(0, a.length));
  }
  return parameters;
};

/**
 * One layer's products of inputs, and those of a window; hidden states, keys and values of all examples; and the
 * components of all layers.
 */
const size: Initializer["size"] = (given, { shapes, targets }) => {
  const { eva_rho: rho } = settingsOf(given);
  const { layers, hiddenSize, kvHeads, headDim } = targets;
  const widthOf = (matrix: ReadMatrix) =>
    targets.shapes[projections.find((projection) => readBy[projection] === matrix)!].in;
  const products = readMatrices.reduce((sum, matrix) => sum + widthOf(matrix) ** 2, 0);
  const tokens = 2 * maxTokens; // the last example may be a long one
  const components = Array.from({ length: layers }, (_, layer) =>
    Array.from(countsOf(shapes, layer, rho)).reduce(
      (sum, [matrix, count]) => sum + (count + spareRows) * widthOf(matrix),
      0,
    ),
  ).reduce((sum, own) => sum + own, 0);
  return {
    values: mostNumbers(shapes, targets, rho),
    preparing: 2 * products + tokens * (hiddenSize + 2 * kvHeads * headDim) + components,
  };
};

/** Where all ranks go to the widest modules, as far as each may grow. */
function mostNumbers(shapes: readonly ModuleShape[], targets: AdapterTargets, rho: number): number {
  const widthOf = ({ projection }: ModuleShape) =>
    targets.shapes[projection].in + targets.shapes[projection].out;
  let left = shapes.reduce((sum, { rank }) => sum + rank, 0);
  let numbers = 0;
  for (const shape of shapes.toSorted((one, other) => widthOf(other) - widthOf(one))) {
    const taken = Math.min(left, mostRanks(shape, rho));
    numbers += taken * widthOf(shape);
    left -= taken;
  }
  return numbers;
}

export const eva: Initializer = { start, size };

/** Batches of a step's size, of so many examples in all as have the tokens. */
function* batchesOf({ passes, spec }: MethodContext): Generator<TrainingUnit, TrainingSequence[][], void> {
  const order = yield* shuffling(passes.count, mix(spec.seed ^ 0xe7a));
  let tokens = 0;
  const end = order.findIndex((index) => {
    tokens += passes.tokensOf(index);
    return tokens >= maxTokens;
  });
  const chosen = Array.from(end === -1 ? order : order.subarray(0, end + 1));
  return cut(chosen.length, spec.batchSize).map(({ from, to }) =>
    passes.of(chosen.slice(from, to)).flatMap(({ sequences }) => sequences),
  );
}

/** Components that a layer's matrices need at most. */
function countsOf(shapes: readonly ModuleShape[], layer: number, rho: number): Map<ReadMatrix, number> {
  const counts = new Map<ReadMatrix, number>();
  for (const shape of shapes.filter((each) => each.layer === layer)) {
    const matrix = readBy[shape.projection];
    counts.set(matrix, Math.max(counts.get(matrix) ?? 0, mostRanks(shape, rho)));
  }
  return counts;
}

function mostRanks({ rank }: ModuleShape, rho: number): number {
  return Math.round(rank * rho);
}

function* layerComponents(of: {
  readonly pass: ActivationPass;
  readonly moments: LayerMoments;
  readonly counts: ReadonlyMap<ReadMatrix, number>;
  readonly before: LayerComponents;
  readonly seed: number;
}): Generator<TrainingUnit, LayerComponents, void> {
  const { pass, moments, counts, before, seed } = of;
  const components = new Map<ReadMatrix, Components>();
  for (const [matrix, count] of counts) {
    const found = yield* principalComponents(moments[matrix], {
      count: Math.min(count, moments[matrix].sum.length),
      multiply: (x, y) => pass.multiply(x, y),
      seed: mix(seed + readMatrices.indexOf(matrix)),
      before: before.get(matrix) ?? null,
    });
    components.set(matrix, found);
  }
  return components;
}

function settled(
  before: LayerComponents,
  after: LayerComponents,
  { counts, tau }: { readonly counts: ReadonlyMap<ReadMatrix, number>; readonly tau: number },
): boolean {
  return Array.from(counts).every(([matrix, count]) => {
    const old = before.get(matrix);
    const { rows, width } = after.get(matrix)!;
    return old !== undefined && leastCosine(old.rows, rows, { count, width }) >= tau;
  });
}
