// How much memory forward passes by the graph that serves take, beside what serving has anyway: weights, the session and
// its working memory, since a probe is no longer than a prompt's chunk.

import { type AdapterTargets, projections } from "../kernels/adapter.ts";
import { adapterSites } from "../kernels/adapter-sites.ts";

export type ProbeMemoryOptions = {
  readonly targets: AdapterTargets;
  readonly trained: number; // numbers of each adapter
  readonly unitTokens: number;
  readonly longestTokens: number; // of an example
};

/** Adapters side by side. */
const rows = 2;
const floatBytes = Float32Array.BYTES_PER_ELEMENT;
/** What has been replaced stays until the garbage collector comes. */
const copies = 2;

export function probeBytes({ targets, trained, unitTokens, longestTokens }: ProbeMemoryOptions): number {
  const { layers, kvHeads, headDim, hiddenSize, vocabSize, shapes } = targets;
  const keyValues = 2 * layers * kvHeads * headDim; // of a token
  const groups = shapes.q.out / headDim / kvHeads;
  const slots = rows * trained * (2 + 2 * siteShare(targets)); // values, the adapter, its stacks, its slot
  const past = rows * longestTokens * keyValues * copies;
  const mask = groups * unitTokens * (longestTokens + unitTokens);
  const outputs = unitTokens * (vocabSize + keyValues) * copies; // the runtime copies what it returns
  return floatBytes * (slots + past + mask + outputs + unitTokens * hiddenSize * copies);
}

/** Of a pass: rotary rows, and the log-probabilities of two adapters and a reference. */
export function probeBytesPerToken({ headDim }: AdapterTargets): number {
  return floatBytes * (2 * headDim + 16);
}

/** How much larger a module may be at its site, where each rank spans all of the site's outputs. */
function siteShare(targets: AdapterTargets): number {
  const { shapes } = targets;
  const sites = adapterSites(targets);
  return Math.max(
    ...projections.map((projection) => {
      const site = sites.find(({ parts }) => parts.some((part) => part.projection === projection))!;
      return (site.in + site.out) / (site.in + shapes[projection].out);
    }),
  );
}
