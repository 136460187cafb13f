// Additive attention masks: 0 where a query may look, minus infinity where it may not. A query at position p of a
// layer with window w sees the positions p - w + 1 to p.

/**
 * Decode: every row's one query, over its cached tokens, the padding of its capacity, and itself last.
 * @returns [rows, 1, 1, 1, capacity + 1]
 */
export function fillDecodeMask(step: {
  readonly lengths: readonly number[];
  readonly capacity: number;
  readonly window: number | null;
}): Float32Array {
  const { lengths, capacity, window } = step;
  const mask = new Float32Array(lengths.length * (capacity + 1));
  for (const [row, length] of lengths.entries()) {
    const start = row * (capacity + 1);
    mask.fill(Number.NEGATIVE_INFINITY, start + length, start + capacity);
    if (window !== null) mask.fill(Number.NEGATIVE_INFINITY, start, start + Math.max(0, length - window + 1));
  }
  return mask;
}

/**
 * Prefill: `count` queries after `past` cached tokens, repeated for each query head of a group.
 * @returns [1, 1, 1, groups * count, past + count], or [1, 1, 1, 1, past + 1] for a single token
 */
export function fillPrefillMask(chunk: {
  readonly past: number;
  readonly count: number;
  readonly groups: number;
  readonly window: number | null;
}): Float32Array {
  const { past, count, window } = chunk;
  const keys = past + count;
  const size = count * keys;
  const mask = new Float32Array(count === 1 ? size : size * chunk.groups);
  for (let query = 0; query < count; query++) {
    const start = query * keys;
    mask.fill(Number.NEGATIVE_INFINITY, start + past + query + 1, start + keys);
    if (window !== null) {
      mask.fill(Number.NEGATIVE_INFINITY, start, start + Math.max(0, past + query - window + 1));
    }
  }
  for (let at = size; at < mask.length; at += size) mask.copyWithin(at, 0, size);
  return mask;
}
