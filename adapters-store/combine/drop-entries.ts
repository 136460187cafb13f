// DARE (arXiv 2311.03099): drop entries at random and enlarge the others, so that the expectation stays.

import { randomAt } from "../../kernels/sampling/random.ts";

export function dropEntries(
  values: Float32Array,
  { density, seed }: { readonly density: number; readonly seed: number },
  randomStream: number,
): void {
  for (let i = 0; i < values.length; i++) {
    values[i] = randomAt(seed ^ randomStream, i) < density ? values[i]! / density : 0;
  }
}
