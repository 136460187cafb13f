// The contract of what a training kernel computes with: how its graphs are written and run, and where the frozen
// weights lie. What the kernel computes, a device does not know.

import { adapterTargets } from "../model-family.ts";
import { type Feeds, Session, type SessionOptions } from "../session.ts";
import { DifferentiableGraph } from "./differentiable-graph.ts";
import type { FrozenWeights } from "./frozen-weights.ts";
import { HostWeights } from "./host-weights.ts";
import type { IntegerCoding } from "./integer-coding.ts";
import { IntegerRuns } from "./integer-runs.ts";
import { PreparedWeights } from "./prepared-weights.ts";
import { WeightMap } from "./sparse-weights.ts";
import type { TrainingBase, TrainingKernelOptions } from "./training-kernel.ts";

/** What a unit needs of a session: feeds from the host or the device, outputs on the host. */
export type TrainingSession = Pick<Session, "run" | "close">;

/** Where a pass's adapter lies, so that it goes to the device once. */
export type AdapterPlace = {
  /** @returns inputs with the same values */
  readonly put: (feeds: Feeds) => Promise<Feeds>;
  /** The pass has ended, or is given up while a unit of it is under way. */
  readonly release: () => void;
};

export type TrainingDevice = {
  readonly newGraph: () => DifferentiableGraph;
  readonly openSession: (options: SessionOptions) => Promise<TrainingSession>;
  readonly weights: FrozenWeights;
  readonly headSliceRows: number;
  /** For passes in int8; null where the device has no such products. */
  readonly integers: IntegerRuns | null;
  /** Of a pass that begins. */
  readonly adapterPlace: () => AdapterPlace;
  /** Whether memory is worth spending on what would else be recomputed going back. */
  readonly keepsResults: boolean;
  close(): Promise<void>;
};

export type OpenTrainingDevice = (base: TrainingBase, options: TrainingKernelOptions) => TrainingDevice;

/** No power of two: logits lie in rows of it, which would then share the same places of the processor's cache. */
const hostHeadSliceRows = 4128;

/**
 * The CPU, whose sessions read the weights where they are widened.
 * @param options.coding of matrices for integer products; the fastest here unless given
 */
export function openHostDevice(
  { config, layout, dataPath }: TrainingBase,
  options: TrainingKernelOptions & { readonly coding?: IntegerCoding },
): TrainingDevice {
  const { threads, widenedBytes = 0, coding } = options;
  const prepared = new PreparedWeights(layout, dataPath, widenedBytes);
  const weights = new HostWeights(prepared, new WeightMap(adapterTargets(config)));
  const integers = new IntegerRuns(config, prepared, { threads, coding });
  return {
    newGraph: () => new DifferentiableGraph(),
    openSession: Session.open,
    weights,
    integers,
    headSliceRows: hostHeadSliceRows,
    adapterPlace: () => ({ put: async (feeds) => feeds, release() {} }),
    keepsResults: true,
    async close() {
      await integers.close();
      await weights.close();
    },
  };
}
