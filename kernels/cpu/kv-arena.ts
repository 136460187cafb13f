// Keys and values of the rows that share one capacity: per layer, keys and values apart, one array
// [rows, kvHeads, capacity, headDim], so that the first rows of an arena are one contiguous view. Which sequence a
// row belongs to and when it moves, kv-store.ts knows.
//
// Fresh memory is dear (the first touch of a page costs more than copying it), so the arrays grow in place, row by
// row, and a freed row's memory stays until `trim`. Free rows and padding hold zeros: what is masked is still
// multiplied, and NaN times zero is NaN.

import { outputNames } from "../forward-graph.ts";
import type { ModelConfig } from "../model-config.ts";

export type KvShape = Pick<ModelConfig, "layers" | "kvHeads" | "headDim">;

/** A row's place. It changes when another row of the arena leaves. */
export type KvRow = { readonly arena: KvArena; index: number; length: number }; // tokens

/** Arrays per row: keys and values of each layer, in the order of the graph's output. */
export function pieceCount(shape: KvShape): number {
  return shape.layers * 2;
}

export function bytesPerToken({ layers, kvHeads, headDim }: KvShape): number {
  return layers * 2 * kvHeads * headDim * Float32Array.BYTES_PER_ELEMENT;
}

export class KvArena {
  readonly capacity: number; // tokens per row
  readonly rowBytes: number;
  readonly rows: KvRow[] = []; // by index
  readonly #shape: KvShape;
  readonly #buffers: readonly ArrayBuffer[]; // per piece; address space for all rows, memory for `#committed`
  #pieces: Float32Array<ArrayBuffer>[] = []; // all committed rows
  #committed = 0;
  readonly #newTokens = new NewTokens();
  /** Grows with every trim: views taken before are stale. */
  generation = 0;

  constructor(shape: KvShape, capacity: number, maxRows: number) {
    this.#shape = shape;
    this.capacity = capacity;
    this.rowBytes = capacity * bytesPerToken(shape);
    const maxByteLength = maxRows * this.#pieceRowBytes;
    this.#buffers = Array.from({ length: pieceCount(shape) }, () => new ArrayBuffer(0, { maxByteLength }));
  }

  /** What the arena holds of the machine's memory, free rows included. */
  get committedBytes(): number {
    return this.#committed * this.rowBytes;
  }

  get freeRows(): number {
    return this.#committed - this.rows.length;
  }

  /** Takes the next row, empty. */
  add(): KvRow {
    const row: KvRow = { arena: this, index: this.rows.length, length: 0 };
    if (this.freeRows === 0) this.#commit(this.#committed + 1);
    this.rows.push(row);
    return row;
  }

  /** Frees a row; the last one takes its place. */
  remove(row: KvRow): void {
    const last = this.rows.at(-1)!;
    const size = Math.max(row.length, last.length) * this.#shape.headDim;
    this.#eachHead((piece, head) => {
      const end = this.#at(last, head, 0);
      if (last !== row) piece.copyWithin(this.#at(row, head, 0), end, end + size);
      piece.fill(0, end, end + size);
    });
    last.index = row.index;
    this.rows[row.index] = last;
    this.rows.pop();
  }

  swap(one: KvRow, other: KvRow): void {
    if (one === other) return;
    const size = Math.max(one.length, other.length) * this.#shape.headDim;
    const kept = new Float32Array(size);
    this.#eachHead((piece, head) => {
      const a = this.#at(one, head, 0);
      const b = this.#at(other, head, 0);
      kept.set(piece.subarray(a, a + size));
      piece.copyWithin(a, b, b + size);
      piece.set(kept, b);
    });
    const { index } = one;
    one.index = other.index;
    other.index = index;
    this.rows[one.index] = one;
    this.rows[other.index] = other;
  }

  /** Gives the memory of the free rows back. */
  trim(): void {
    if (this.freeRows === 0) return;
    this.#commit(this.rows.length);
    this.generation++;
  }

  /** Per piece, the first `count` rows [count, kvHeads, capacity, headDim], not copied; valid until a trim. */
  firstRows(count: number): Float32Array[] {
    const { kvHeads, headDim } = this.#shape;
    const end = count * kvHeads * this.capacity * headDim;
    return this.#pieces.map((piece) => piece.subarray(0, end));
  }

  /**
   * Appends what a run returned.
   * @param newKeyValues the graph's output [layers * 2 * rows, kvHeads, tokens, headDim]
   */
  append(rows: readonly KvRow[], tokens: number, newKeyValues: Float32Array): void {
    const { kvHeads, headDim } = this.#shape;
    const size = tokens * headDim;
    const expected = this.#pieces.length * rows.length * kvHeads * size;
    if (newKeyValues.length !== expected) {
      throw new RangeError(
        `${outputNames.newKeyValues}: ${newKeyValues.length} values, expected ${expected}`,
      );
    }
    if (rows.some((row) => row.length + tokens > this.capacity)) {
      throw new RangeError(`a row of ${this.capacity} tokens cannot take ${tokens} more`);
    }
    const heads = tokens === 1 ? this.#newTokens.headsOf(newKeyValues, size) : cut(newKeyValues, size);
    let next = 0;
    for (const piece of this.#pieces) {
      for (const row of rows) {
        for (let head = 0; head < kvHeads; head++) {
          piece.set(heads[next++]!, this.#at(row, head, row.length));
        }
      }
    }
    for (const row of rows) row.length += tokens;
  }

  /** Copies tokens [first, end) of one piece of a row to the same tokens of a row elsewhere. */
  copyPiece(row: KvRow, index: number, to: KvRow, first: number, end: number): void {
    const piece = this.#pieces[index]!;
    for (let head = 0; head < this.#shape.kvHeads; head++) {
      const source = piece.subarray(this.#at(row, head, first), this.#at(row, head, end));
      to.arena.#pieces[index]!.set(source, to.arena.#at(to, head, first));
    }
    to.length = Math.max(to.length, end);
  }

  /** The reverse of `compact`, for an empty row. */
  restore(row: KvRow, tokens: number, pieces: readonly Float32Array[]): void {
    const size = tokens * this.#shape.headDim;
    this.#eachHead((piece, head, index) => {
      piece.set(pieces[index]!.subarray(head * size, (head + 1) * size), this.#at(row, head, 0));
    });
    row.length = tokens;
  }

  /** Writes a row without its padding: per piece [1, kvHeads, length, headDim]. */
  compact(row: KvRow, out: readonly Float32Array[]): void {
    const size = row.length * this.#shape.headDim;
    this.#eachHead((piece, head, index) => {
      const start = this.#at(row, head, 0);
      out[index]!.set(piece.subarray(start, start + size), head * size);
    });
  }

  get #pieceRowBytes(): number {
    const { kvHeads, headDim } = this.#shape;
    return kvHeads * this.capacity * headDim * Float32Array.BYTES_PER_ELEMENT;
  }

  #at(row: KvRow, head: number, token: number): number {
    return ((row.index * this.#shape.kvHeads + head) * this.capacity + token) * this.#shape.headDim;
  }

  #eachHead(visit: (piece: Float32Array, head: number, index: number) => void): void {
    for (const [index, piece] of this.#pieces.entries()) {
      for (let head = 0; head < this.#shape.kvHeads; head++) visit(piece, head, index);
    }
  }

  #commit(rows: number): void {
    const bytes = rows * this.#pieceRowBytes;
    for (const buffer of this.#buffers) buffer.resize(bytes);
    this.#pieces = this.#buffers.map((buffer) => new Float32Array(buffer, 0, bytes / 4));
    this.#committed = rows;
  }
}

/**
 * What a decode step returned, head by head. The views are kept: a step has thousands, and made anew they would be most
 * of what its thread has to collect.
 */
class NewTokens {
  #values = new Float32Array(0);
  #heads: Float32Array[] = [];

  /** Valid until the next call. @returns heads of `size` values, as many as there are or more */
  headsOf(values: Float32Array, size: number): readonly Float32Array[] {
    if (values.length > this.#values.length) {
      this.#values = new Float32Array(values.length);
      this.#heads = cut(this.#values, size);
    }
    this.#values.set(values);
    return this.#heads;
  }
}

function cut(values: Float32Array, size: number): Float32Array[] {
  return Array.from({ length: values.length / size }, (_, head) =>
    values.subarray(head * size, (head + 1) * size),
  );
}
