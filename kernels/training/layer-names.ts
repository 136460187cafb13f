// What goes into the layer graphs and comes out, by name, with shapes as fed: S new tokens, P earlier ones, K kv heads
// of width D with G query heads each.

import { type Projection, projections } from "../adapter.ts";
import type { PreparedLayer } from "../prepare/layout.ts";

/** The layer's matrices and vectors, by their names in the prepared layout. */
export type LayerWeight = keyof PreparedLayer;

/** Those of them that linear maps multiply with. */
export const matrixNames = ["qkv", "o", "gate", "up", "down"] as const satisfies readonly LayerWeight[];
export type MatrixName = (typeof matrixNames)[number];

/** A layer's parts, each with a residual around it: what attention gives is what the MLP gets. */
export const halves = ["attention", "mlp"] as const;
export type Half = (typeof halves)[number];

export const halfProjections = {
  attention: ["q", "k", "v", "o"],
  mlp: ["gate", "up", "down"],
} as const satisfies Record<Half, readonly Projection[]>;

/** Projections of the same input, whose modules read it together. */
export const readTogether = { attention: ["q", "k", "v"], mlp: ["gate", "up"] } as const satisfies Record<
  string,
  readonly Projection[]
>;

export const layerInputs = {
  hidden: "hidden", // [S, hidden], of the half
  cos: "cos", // [S, rotated / 2]
  sin: "sin",
  // Of attention's tiles (attention-tiles.ts), T of them, of Q queries and N keys:
  mask: "mask", // [T, 1, G Q, N], added to scores
  queryRows: "query_rows", // [T, K, G Q]
  tokenRows: "token_rows", // [S, K G]
  keyRows: "key_rows", // [T, K, N]
  keyTokenRows: "key_token_rows", // [P + S, K]
  pastKeys: "past.keys", // [P, K D], rotated
  pastValues: "past.values",
  keySplit: "key_split", // [P, S]
  weight: (name: LayerWeight) => `weight.${name}`,
  a: (projection: Projection) => `${projection}.a`, // [rank, in]
  b: (projection: Projection) => `${projection}.b`, // [rank, out]
  scale: (projection: Projection) => `${projection}.scale`, // [1]
  ranks: (together: readonly Projection[]) => `${together.join("_")}.ranks`, // of each
  // Of the loss, by what the half gave:
  outputGradient: "output.gradient", // [S, hidden]
  keysGradient: "keys.gradient", // [S, K D], from later tokens
  valuesGradient: "values.gradient",
  kept: (name: KeptName) => `kept.${name}`,
} as const;

/**
 * Results that need not be recomputed if they are kept: of linear maps, adapter included, "keys" behind norm and
 * rotation. "keys" and "v" are kept anyway. "k", "o" and "down" matter only where a norm follows them.
 */
const keptResults = ["q", "k", "keys", "v", "o", "gate", "up", "down"] as const;

/** What the adapter makes of a projection's input by its first matrix, [S, rank]: kept where results are. */
export const readName = (projection: Projection) => `${projection}.read` as const;

export const keptNames = [...keptResults, ...projections.map(readName)] as const;
export type KeptName = (typeof keptNames)[number];

export const layerOutputs = {
  output: "output", // [S, hidden]
  keys: "keys", // [S, K D]
  values: "values",
  hiddenGradient: "hidden.gradient", // [S, hidden]
  pastKeysGradient: "past.keys.gradient", // [P, K D]
  pastValuesGradient: "past.values.gradient",
  aGradient: (projection: Projection) => `${projection}.a.gradient`,
  bGradient: (projection: Projection) => `${projection}.b.gradient`,
  // Whose product over tokens is the gradient by a matrix:
  readBy: (matrix: MatrixName) => `${matrix}.x`, // [in, S]
  givenBy: (matrix: MatrixName) => `${matrix}.y.gradient`, // [out, S]
  // Over the tokens:
  sumReadBy: (matrix: MatrixName) => `${matrix}.x.sum`, // [in]
  productsReadBy: (matrix: MatrixName) => `${matrix}.x.products`, // [in, in]
  kept: (name: KeptName) => `kept.${name}`,
} as const;
