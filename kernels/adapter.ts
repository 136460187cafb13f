// What the kernels need to know of an adapter: decoded low-rank modules in the layout of the device's slots.
// Where they come from (PEFT directories, containers, a training job) is adapters-store's business.

/** The projections of a transformer layer that an adapter may change, in graph order. */
export const projections = ["q", "k", "v", "o", "gate", "up", "down"] as const;
export type Projection = (typeof projections)[number];

/** Widths of one projection: y [out] = W x [in]. */
export type ProjectionShape = { readonly in: number; readonly out: number };

/** The part of a base model that adapters are checked against. */
export type AdapterTargets = {
  readonly layers: number;
  readonly shapes: Readonly<Record<Projection, ProjectionShape>>;
};

/** One low-rank module: y += (x aᵀ) b, with the adapter's scale already folded into `b`. */
export type LowRankModule = {
  readonly layer: number;
  readonly projection: Projection;
  readonly rank: number;
  readonly a: Float32Array<ArrayBuffer>; // [rank, in]
  readonly b: Float32Array<ArrayBuffer>; // [rank, out]
};

export type DecodedAdapter = { readonly modules: readonly LowRankModule[] };
