// Log-probabilities of the unmodified distribution, and the n most likely tokens.

export type RankedToken = readonly [tokenId: number, logprob: number];

/** log(sum(exp(logits))), stable. */
export function logSumExp(logits: Float32Array): number {
  const max = maximum(logits);
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += Math.exp(logits[i]! - max);
  return max + Math.log(sum);
}

export function maximum(values: Float32Array): number {
  let max = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < values.length; i++) if (values[i]! > max) max = values[i]!;
  return max;
}

/** The first index of the largest value. */
export function argmax(values: Float32Array): number {
  let best = 0;
  let max = values[0]!;
  for (let i = 1; i < values.length; i++) {
    if (values[i]! > max) {
      max = values[i]!;
      best = i;
    }
  }
  return best;
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
