// All graphs of a layer's halves by the names of their runs, each written when it is asked for.

import { readMatrices } from "./activation-pass.ts";
import type { HalfRun } from "./half-runs.ts";
import { buildBackwardLayer, buildForwardLayer, buildMomentsLayer, keptWidths } from "./layer-graph.ts";
import { type Half, halves } from "./layer-names.ts";
import type { HalfShape } from "./layer-writer.ts";

type HalfModels = Record<`${HalfRun} ${Half}`, () => Uint8Array>;

const builders: Readonly<Record<HalfRun, (shape: HalfShape) => Uint8Array>> = {
  forward: (shape) => buildForwardLayer({ ...shape, keep: false }),
  forwardKeeping: (shape) => buildForwardLayer({ ...shape, keep: true }),
  moments: (shape) => buildMomentsLayer({ ...shape, keep: false }, readMatrices),
  backward: (shape) => buildBackwardLayer({ ...shape, keep: false }),
  backwardKept: (shape) => buildBackwardLayer({ ...shape, keep: true }),
  backwardFactors: (shape) => buildBackwardLayer({ ...shape, keep: false, factors: true }),
  backwardKeptFactors: (shape) => buildBackwardLayer({ ...shape, keep: true, factors: true }),
};

export function halfModels(shape: Omit<HalfShape, "half">): HalfModels {
  const models = halves.flatMap((half) =>
    Object.entries(builders).map(([run, build]) => [`${run} ${half}`, () => build({ ...shape, half })]),
  );
  return Object.fromEntries(models) as HalfModels;
}

/** What a layer's linear maps give, without keys, values and what adapters read. */
export function keptBytesPerToken(shape: Pick<HalfShape, "config" | "layer">): number {
  const widths = halves.flatMap((half) => [...keptWidths({ ...shape, half }).values()]);
  return Float32Array.BYTES_PER_ELEMENT * widths.reduce((sum, width) => sum + width, 0);
}
