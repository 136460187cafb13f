// Which adapter a request asks for: the popularities that the tests of the batched path use too.

import type { Random } from "./random.ts";

export type Popularity =
  | { readonly kind: "identical" } // the first, always
  | { readonly kind: "distinct" } // one after the other, all in turn
  | { readonly kind: "uniform" }
  | { readonly kind: "zipf"; readonly alpha: number } // the k-th in proportion to 1 / k^alpha
  | { readonly kind: "skewed" }; // half of the requests to the first, the rest uniformly to the others

export type Choose = (random: Random) => number;

/** @returns draws of an index below `count`; `distinct` remembers its turn, so make one per stream of requests */
export function chooser(popularity: Popularity, count: number): Choose {
  switch (popularity.kind) {
    case "identical":
      return () => 0;
    case "distinct": {
      let turn = 0;
      return () => turn++ % count;
    }
    case "uniform":
      return (random) => random.below(count);
    case "zipf":
      return zipf(popularity.alpha, count);
    case "skewed":
      return (random) => (count === 1 || random.uniform() < 0.5 ? 0 : 1 + random.below(count - 1));
    default:
      return popularity satisfies never;
  }
}

function zipf(alpha: number, count: number): Choose {
  const cumulative = new Float64Array(count);
  let total = 0;
  for (let index = 0; index < count; index++) {
    total += (index + 1) ** -alpha;
    cumulative[index] = total;
  }
  return (random) => {
    const target = random.uniform() * total;
    let [low, high] = [0, count - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (cumulative[middle]! > target) high = middle;
      else low = middle + 1;
    }
    return low;
  };
}
