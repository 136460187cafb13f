// LISA (Pan et al., arXiv 2403.17919): a few layers at random, others every `period` steps.

import { mix } from "../../../kernels/sampling/random.ts";
import { shuffled } from "../../example-order.ts";
import { noState } from "../method.ts";
import type { SelectionKind } from "./layer-selection.ts";

export const lisa: SelectionKind = ({ layers, count, period, seed }) => ({
  *choose({ step }) {
    const known = layers();
    const order = shuffled(known.length, mix(seed + mix(Math.floor(step / period))));
    const drawn = Array.from(order.subarray(0, count), (place) => known[place]!);
    return { layers: drawn.sort((one, other) => one - other), keep: () => undefined };
  },
  state: () => noState,
  restore: () => undefined,
});
