// Log-probabilities of the unmodified distribution, and the n most likely tokens.

export type RankedToken = readonly [tokenId: number, logprob: number];

/** log(sum(exp(logits))), stable. */
export function logSumExp(logits: Float32Array): number {
  const max = maximum(logits);
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += Math.exp(logits[i]! - max);
  return max + Math.log(sum);
}

/** Four running maxima, because one would wait for itself: a fifth of the time of the plain loop. */
export function maximum(values: Float32Array): number {
  let max0 = Number.NEGATIVE_INFINITY;
  let max1 = max0;
  let max2 = max0;
  let max3 = max0;
  const grouped = values.length - (values.length % 4);
  for (let i = 0; i < grouped; i += 4) {
    const value0 = values[i]!;
    const value1 = values[i + 1]!;
    const value2 = values[i + 2]!;
    const value3 = values[i + 3]!;
    if (value0 > max0) max0 = value0;
    if (value1 > max1) max1 = value1;
    if (value2 > max2) max2 = value2;
    if (value3 > max3) max3 = value3;
  }
  for (let i = grouped; i < values.length; i++) if (values[i]! > max0) max0 = values[i]!;
  return Math.max(max0, max1, max2, max3);
}

/** The first index of the largest value. */
export function argmax(values: Float32Array): number {
  return Math.max(0, values.indexOf(maximum(values))); // 0 where nothing compares, as in a row of NaN
}

/** The `count` largest, largest first; equal values in order of their index. */
export function topIndices(values: Float32Array, count: number): number[] {
  const top: number[] = [];
  let least = Number.NEGATIVE_INFINITY;
  for (let index = 0; index < values.length; index++) {
    const value = values[index]!;
    if (top.length === count && value <= least) continue;
    let at = top.length;
    while (at > 0 && values[top[at - 1]!]! < value) at--;
    top.splice(at, 0, index);
    if (top.length > count) top.pop();
    if (top.length === count) least = values[top[count - 1]!]!;
  }
  return top;
}
