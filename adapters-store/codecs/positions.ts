// Ascending positions as the gaps between them, each with a bit of its own (a sign) or without.

import { type Indices, malformedTensor } from "./tensor-codec.ts";

/** Numbers of positions skipped before each one. */
export function gapsOf(positions: Uint32Array): Indices {
  const gaps = new Uint32Array(positions.length);
  for (let i = 0; i < gaps.length; i++)
    gaps[i] = i === 0 ? positions[0]! : positions[i]! - positions[i - 1]! - 1;
  return gaps;
}

/** In place, from gaps. Throws AdapterError `container_tensor_malformed` where one is `limit` or more. */
export function positionsOf(gaps: Indices, limit: number): Indices {
  let next = 0;
  for (let i = 0; i < gaps.length; i++) {
    const position = next + gaps[i]!;
    if (position >= limit) throw malformedTensor(`a position is ${position} of ${limit}`);
    gaps[i] = position;
    next = position + 1;
  }
  return gaps;
}
