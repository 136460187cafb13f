// The capacities at which rows of keys and values are kept. Finer than powers of two, because every row of a run
// pays for its whole capacity; multiples of 64, because then padding changes no bit of a result (attention's sums
// are cut at multiples of 16, and what is masked adds zero: docs/quantization.md).

const multiple = 64;
const smallestCapacity = 128; // tokens
const quarteredFrom = 1024; // below, a move more costs about as much as the padding it saves

/** 128, 192, 256, 384, ..., 1024, 1280, 1536, ...: ascending; the last is the least that holds `maxContext`. */
export function bucketCapacities(maxContext: number): number[] {
  const last = Math.ceil(maxContext / multiple) * multiple;
  const capacities: number[] = [];
  for (let power = smallestCapacity; power < last; power *= 2) {
    const parts = power < quarteredFrom ? [1, 1.5] : [1, 1.25, 1.5, 1.75];
    capacities.push(...parts.map((part) => power * part).filter((capacity) => capacity < last));
  }
  return [...capacities, last];
}

/** The smallest capacity that holds `tokens`. */
export function capacityFor(capacities: readonly number[], tokens: number): number {
  const capacity = capacities.find((one) => one >= tokens);
  if (capacity === undefined) {
    throw new RangeError(`${tokens} tokens do not fit a context of ${capacities.at(-1)}`);
  }
  return capacity;
}
