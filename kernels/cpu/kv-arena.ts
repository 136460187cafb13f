// Keys and values of all rows on the host: per layer one array [rows, kvHeads, capacity, headDim] each. All rows
// share one capacity, so that any run of rows is one contiguous view; it grows and shrinks in powers of two.

import { outputNames } from "../forward-graph.ts";
import type { ModelConfig } from "../model-config.ts";

export type KvShape = Pick<ModelConfig, "layers" | "kvHeads" | "headDim">;

const smallestCapacity = 128; // tokens

/** The bucket that holds `tokens`. */
export function capacityFor(tokens: number): number {
  let capacity = smallestCapacity;
  while (capacity < tokens) capacity *= 2;
  return capacity;
}

type Places = {
  readonly starts: readonly number[]; // of each row's next token
  readonly heads: number;
  readonly headStride: number;
  readonly size: number; // values per head
};

function scatter(values: Float32Array, first: number, to: Float32Array, places: Places): number {
  const { starts, heads, headStride, size } = places;
  let from = first;
  for (let row = 0; row < starts.length; row++) {
    let at = starts[row]!;
    for (let head = 0; head < heads; head++) {
      // For one token a plain loop is faster than `set` of a subarray, which allocates.
      if (size > 512) to.set(values.subarray(from, from + size), at);
      else for (let index = 0; index < size; index++) to[at + index] = values[from + index]!;
      from += size;
      at += headStride;
    }
  }
  return from;
}

export class KvArena {
  readonly #shape: KvShape;
  readonly #rows: number;
  readonly #lengths: number[]; // tokens per row
  #capacity = smallestCapacity;
  /** Grows with every change of bucket: views taken before are stale. */
  generation = 0;
  #keys: Float32Array<ArrayBuffer>[]; // per layer
  #values: Float32Array<ArrayBuffer>[];

  constructor(shape: KvShape, rows: number) {
    this.#shape = shape;
    this.#rows = rows;
    this.#lengths = Array<number>(rows).fill(0);
    this.#keys = this.#allocate(this.#capacity);
    this.#values = this.#allocate(this.#capacity);
  }

  get capacity(): number {
    return this.#capacity;
  }

  /** Per layer, the first `rows` rows: keys and values [rows, kvHeads, capacity, headDim], not copied. */
  firstRows(rows: number): { keys: Float32Array[]; values: Float32Array[] } {
    const end = rows * this.#rowStride;
    return {
      keys: this.#keys.map((layer) => layer.subarray(0, end)),
      values: this.#values.map((layer) => layer.subarray(0, end)),
    };
  }

  /** One row without its padding, copied: keys and values [1, kvHeads, length, headDim] per layer. */
  compactRow(row: number): { keys: Float32Array[]; values: Float32Array[] } {
    const { kvHeads, headDim } = this.#shape;
    const size = this.length(row) * headDim;
    const compact = (layer: Float32Array) => {
      const out = new Float32Array(kvHeads * size);
      for (let head = 0; head < kvHeads; head++) {
        const start = this.#at(row, head, 0);
        out.set(layer.subarray(start, start + size), head * size);
      }
      return out;
    };
    return { keys: this.#keys.map(compact), values: this.#values.map(compact) };
  }

  length(row: number): number {
    return this.#lengths[row]!;
  }

  /** Makes room for the longest of the rows that will hold `tokens`; moves everything when the bucket changes. */
  reserve(tokens: number): void {
    const wanted = capacityFor(tokens);
    // Shrinking waits until a quarter would do, so that a row around a boundary does not move the arena twice.
    if (wanted > this.#capacity || wanted * 4 <= this.#capacity) this.#resize(wanted);
  }

  /**
   * Appends what a run returned.
   * @param newKeyValues the graph's output [layers * 2 * rows, kvHeads, tokens, headDim]
   */
  append(rows: readonly number[], tokens: number, newKeyValues: Float32Array): void {
    const { layers, kvHeads, headDim } = this.#shape;
    const size = tokens * headDim;
    const headStride = this.#capacity * headDim;
    const starts = rows.map((row) => this.#at(row, 0, this.#lengths[row]!));
    let from = 0;
    for (let layer = 0; layer < layers; layer++) {
      from = scatter(newKeyValues, from, this.#keys[layer]!, { starts, heads: kvHeads, headStride, size });
      from = scatter(newKeyValues, from, this.#values[layer]!, { starts, heads: kvHeads, headStride, size });
    }
    if (from !== newKeyValues.length) {
      throw new RangeError(`${outputNames.newKeyValues}: ${newKeyValues.length} values, expected ${from}`);
    }
    for (const row of rows) this.#lengths[row]! += tokens;
  }

  /** Forgets a row. Its values become zero: masked padding is still multiplied, and NaN times zero is NaN. */
  clear(row: number): void {
    const size = this.length(row) * this.#shape.headDim;
    for (const layer of [...this.#keys, ...this.#values]) {
      for (let head = 0; head < this.#shape.kvHeads; head++) {
        const start = this.#at(row, head, 0);
        layer.fill(0, start, start + size);
      }
    }
    this.#lengths[row] = 0;
  }

  swap(one: number, other: number): void {
    const { kvHeads, headDim } = this.#shape;
    const size = Math.max(this.length(one), this.length(other)) * headDim;
    const kept = new Float32Array(size);
    for (const layer of [...this.#keys, ...this.#values]) {
      for (let head = 0; head < kvHeads; head++) {
        const a = this.#at(one, head, 0);
        const b = this.#at(other, head, 0);
        kept.set(layer.subarray(a, a + size));
        layer.copyWithin(a, b, b + size);
        layer.set(kept, b);
      }
    }
    const length = this.length(one);
    this.#lengths[one] = this.length(other);
    this.#lengths[other] = length;
  }

  get #rowStride(): number {
    return this.#shape.kvHeads * this.#capacity * this.#shape.headDim;
  }

  #at(row: number, head: number, position: number): number {
    return ((row * this.#shape.kvHeads + head) * this.#capacity + position) * this.#shape.headDim;
  }

  /** Zero pages until they are touched. */
  #allocate(capacity: number): Float32Array<ArrayBuffer>[] {
    const rowStride = this.#shape.kvHeads * capacity * this.#shape.headDim;
    return Array.from({ length: this.#shape.layers }, () => new Float32Array(this.#rows * rowStride));
  }

  #resize(capacity: number): void {
    const old = { keys: this.#keys, values: this.#values, stride: this.#rowStride, capacity: this.#capacity };
    const keys = this.#allocate(capacity); // may fail; until both are there nothing has changed
    const values = this.#allocate(capacity);
    this.#capacity = capacity;
    this.generation++;
    this.#keys = keys;
    this.#values = values;
    const { kvHeads, headDim } = this.#shape;
    const move = (from: readonly Float32Array[], to: readonly Float32Array[]) => {
      for (const [layer, source] of from.entries()) {
        for (let row = 0; row < this.#rows; row++) {
          const size = this.length(row) * headDim;
          if (size === 0) continue;
          for (let head = 0; head < kvHeads; head++) {
            const start = row * old.stride + head * old.capacity * headDim;
            to[layer]!.set(source.subarray(start, start + size), this.#at(row, head, 0));
          }
        }
      }
    };
    move(old.keys, this.#keys);
    move(old.values, this.#values);
  }
}
