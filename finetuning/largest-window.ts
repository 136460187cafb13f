// How long a unit of finetuning may be: decoding waits for the unit that runs, so its length is the operator's business
// and not a job's. By shapes alone, never by measured time: a window decides a result's bits, and those must not depend
// on load or machine.

import { type AdapterTargets, type Projection, projections } from "../kernels/adapter.ts";
import { halfProjections, halves } from "../kernels/training/layer-names.ts";

/** Of a job that says nothing of it, as far as base and memory allow. */
export const defaultWindowTokens = 512;

/** 80 ms at 100 GFLOPS, about what two cores of a server do. */
const unitFlops = 8e9;
/** Multiply and add, forward (recomputed) and back. */
const flopsPerWeight = 4;
/** Below this a unit's time is reading the layer's weights, whatever the window. */
const leastTokens = 16;
/** A run of the graph that serves takes as long with half of them: on int4, both are times of reading the weights. */
const leastProbeTokens = 32;
/** Each scored token of a probe has logits: this many keep them under 40 MB. */
const mostProbeTokens = 64;

type Shapes = Pick<AdapterTargets, "shapes" | "layers" | "hiddenSize" | "vocabSize">;

/** The most tokens of a unit of a method's work on this base. */
export function largestUnit({ backward }: { readonly backward: boolean }, targets: Shapes): number {
  return backward ? largestWindow(targets) : largestProbe(targets);
}

/** Of half a layer of a pass, a multiple of 16. */
export function largestWindow({ shapes }: Pick<AdapterTargets, "shapes">): number {
  const weights = halves.map((half) => weightsOf(shapes, halfProjections[half]));
  return Math.max(leastTokens, tokensOf(flopsPerWeight * Math.max(...weights)));
}

/** Of a probe, which goes through all layers and the head, forward only; a multiple of 16. */
function largestProbe(targets: Shapes): number {
  const { shapes, layers, hiddenSize, vocabSize } = targets;
  const weights = layers * weightsOf(shapes, projections) + hiddenSize * vocabSize;
  return Math.min(mostProbeTokens, Math.max(leastProbeTokens, tokensOf(2 * weights)));
}

function weightsOf(shapes: AdapterTargets["shapes"], names: readonly Projection[]): number {
  return names.reduce((sum, name) => sum + shapes[name].in * shapes[name].out, 0);
}

function tokensOf(flopsPerToken: number): number {
  const tokens = Math.floor(unitFlops / flopsPerToken);
  return tokens - (tokens % 16);
}
