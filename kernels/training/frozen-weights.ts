// The contract of where a base's frozen weights lie while an adapter is trained: as inputs of the layers' graphs and of
// the loss'. Which device holds them, and in what form, is the implementer's business.

import type { PreparedLayout } from "../prepare/layout.ts";
import type { Feeds } from "../session.ts";
import type { SparseDelta } from "./sparse-weights.ts";

/** Nobody else may ask for weights before `restore` has ended: what was changed is the base's own again then, bit for bit. */
export type FedLayer = { readonly feeds: Feeds; readonly restore: () => Promise<void> };

/** Rows of the output head; valid until others are asked for. */
export type HeadRows = {
  readonly firstRow: number;
  readonly count: number;
  readonly feed: Feeds[string]; // [count, hidden]
  readonly row: (index: number) => Float32Array; // on the host; valid until the next call
};

export interface FrozenWeights {
  readonly layout: PreparedLayout;
  readonly finalNorm: Float32Array;
  /** @param deltas what is added to the layer's matrices meanwhile */
  layer(index: number, deltas: readonly SparseDelta[]): Promise<FedLayer>;
  headRows(firstRow: number, count: number): Promise<HeadRows>;
  /** @param bytes for what stays widened between units */
  keepWidened(bytes: number): void;
}
