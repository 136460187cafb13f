// The logits of a decode step's runs, brought into the order of the step's entries.

/** What one run gave: `logits` [rows, vocab], of the entry `entries[row]` each. */
export type GroupLogits = { readonly entries: number[]; readonly logits: Float32Array };

export class LogitGatherer {
  readonly #vocabSize: number;
  #data = new Float32Array(0); // kept from step to step: fresh memory is dear to touch

  constructor(vocabSize: number) {
    this.#vocabSize = vocabSize;
  }

  /** @returns [entries, vocab], valid until the next call; a single run's array is used in place */
  gather(groups: readonly GroupLogits[], count: number): Float32Array {
    const width = this.#vocabSize;
    const [first] = groups;
    if (groups.length === 1) return sortRows(first!, width);
    if (this.#data.length < count * width) this.#data = new Float32Array(count * width);
    for (const { entries, logits } of groups) {
      for (const [row, entry] of entries.entries()) {
        this.#data.set(logits.subarray(row * width, (row + 1) * width), entry * width);
      }
    }
    return this.#data.subarray(0, count * width);
  }
}

function sortRows({ entries, logits }: GroupLogits, width: number): Float32Array {
  for (let row = 0; row < entries.length; row++) {
    for (let entry = entries[row]!; entry !== row; entry = entries[row]!) {
      const kept = logits.slice(entry * width, (entry + 1) * width);
      logits.copyWithin(entry * width, row * width, (row + 1) * width);
      logits.set(kept, row * width);
      entries[row] = entries[entry]!;
      entries[entry] = entry;
    }
  }
  return logits;
}
