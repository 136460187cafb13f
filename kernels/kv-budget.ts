// How many bytes of keys and values the open sequences of a device were promised, and whether more may be. Where they
// lie is the device's business.

import { bytesPerToken, type KvShape } from "./cpu/kv-arena.ts";
import { capacityFor } from "./cpu/kv-buckets.ts";
import { KvMemoryError } from "./errors.ts";

/** Reserved: tokens that a sequence was promised room for. */
export type Promised = { readonly reserved: number };

export type KvBudgetOptions = {
  readonly shape: KvShape;
  readonly maxContext: number;
  readonly maxBytes: number;
};

export class KvBudget {
  readonly #maxBytes: number;
  readonly #capacities: readonly number[];
  readonly #tokenBytes: number;
  readonly #open: Iterable<Promised>;

  /**
   * @param capacities that a sequence may have, ascending
   * @param open the open sequences, as they are at any time
   * @throws KvMemoryError `kv_budget_too_small` where one sequence of the whole context would not fit
   */
  constructor(
    { shape, maxContext, maxBytes }: KvBudgetOptions,
    capacities: readonly number[],
    open: Iterable<Promised>,
  ) {
    this.#maxBytes = maxBytes;
    this.#capacities = capacities;
    this.#tokenBytes = bytesPerToken(shape);
    this.#open = open;
    const least = this.bytesOf(maxContext);
    if (maxBytes < least) {
      throw new KvMemoryError(
        "kv_budget_too_small",
        `one sequence of ${maxContext} tokens needs ${least} bytes of keys and values, more than the ${maxBytes} allowed; raise --max-kv-bytes or lower --max-context`,
      );
    }
  }

  /** What a sequence of so many tokens takes. */
  bytesOf(tokens: number): number {
    return capacityFor(this.#capacities, tokens) * this.#tokenBytes;
  }

  /** Promised to the open sequences; at most the budget. */
  get usedBytes(): number {
    let bytes = 0;
    for (const { reserved } of this.#open) bytes += this.bytesOf(reserved);
    return bytes;
  }

  /** @throws KvMemoryError `kv_memory_exhausted` where another sequence of so many tokens does not fit */
  checkOpen(tokens: number): void {
    this.#check(this.bytesOf(tokens), 1);
  }

  /**
   * @returns what each sequence is promised once it is given room for so many tokens in all
   * @throws KvMemoryError `kv_memory_exhausted` where that does not fit
   */
  promise<Sequence extends Promised>(
    sequences: readonly Sequence[],
    tokensOf: (sequence: Sequence) => number,
  ): number[] {
    const wanted = sequences.map((sequence) => Math.max(sequence.reserved, tokensOf(sequence)));
    const more = sequences.reduce(
      (sum, { reserved }, index) => sum + this.bytesOf(wanted[index]!) - this.bytesOf(reserved),
      0,
    );
    if (more > 0) this.#check(more, sequences.length);
    return wanted;
  }

  #check(moreBytes: number, sequences: number): void {
    const maxBytes = this.#maxBytes;
    const { usedBytes } = this;
    if (usedBytes + moreBytes <= maxBytes) return;
    throw new KvMemoryError(
      "kv_memory_exhausted",
      `${sequences} sequence(s) need ${moreBytes} more bytes of keys and values and ${maxBytes - usedBytes} of ${maxBytes} are free; wait for a sequence to finish, or raise --max-kv-bytes`,
    );
  }
}
