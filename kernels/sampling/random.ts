// Counter-based random numbers: the n-th draw of a seed is a pure function of both, so a request that is
// preempted, resumed or batched otherwise draws the same. Not for secrets.

/** The 32-bit finaliser of MurmurHash3 (Appleby), a bijection with full avalanche. */
export function mix(value: number): number {
  let x = value >>> 0;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

/** @returns a uniform number in [0, 1) with 53 random bits */
export function randomAt(seed: number, index: number): number {
  const high = mix(mix(seed ^ 0x9e3779b9) + index);
  const low = mix(high ^ mix(seed + 0x7f4a7c15) ^ index);
  return ((high >>> 5) * 0x4000000 + (low >>> 6)) / 0x20000000000000;
}
