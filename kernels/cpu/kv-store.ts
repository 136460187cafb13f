// Where the keys and values of all open sequences lie: an arena for each capacity, a memory budget over all of
// them, and the rows' moves between them. A sequence lives in the arena of its length, or in a larger one where
// running it together with longer rows is cheaper (row-groups.ts) and memory is left for that.

import { KvMemoryError } from "../errors.ts";
import { KvBudget } from "../kv-budget.ts";
import { bytesPerToken, KvArena, type KvRow, type KvShape, pieceCount } from "./kv-arena.ts";
import { bucketCapacities, capacityFor } from "./kv-buckets.ts";
import { KvMove } from "./kv-move.ts";
import { KvScratch } from "./kv-scratch.ts";
import { type GroupCost, planCapacities } from "./row-groups.ts";

export type KvStoreOptions = {
  readonly shape: KvShape;
  readonly maxRows: number;
  readonly maxContext: number;
  readonly maxBytes: number;
};

/** One sequence's keys and values. `row` changes when they move. */
export type KvSequence = { row: KvRow; reserved: number }; // tokens that it was promised room for

/** Sequences that run together: the first rows of an arena, in that order. */
export type KvGroup = { readonly arena: KvArena; readonly sequences: readonly KvSequence[] };

/** A row that comes this near to its capacity begins to move. */
const aheadTokens = 32;
/** Copied per step for moves that can wait: a few milliseconds, 20 where the memory is fresh. */
const moveBytesPerStep = 16 << 20;

export class KvStore {
  readonly #options: KvStoreOptions;
  readonly #capacities: readonly number[];
  readonly #arenas = new Map<number, KvArena>(); // by capacity
  readonly #sequences = new Set<KvSequence>();
  readonly #budget: KvBudget;
  readonly #scratch: KvScratch;
  #move: { readonly sequence: KvSequence; readonly move: KvMove } | null = null;

  /** @throws KvMemoryError `kv_budget_too_small` where one sequence of the whole context would not fit */
  constructor(options: KvStoreOptions) {
    this.#options = options;
    this.#capacities = bucketCapacities(options.maxContext);
    this.#scratch = new KvScratch(options.shape);
    this.#budget = new KvBudget(options, this.#capacities, this.#sequences);
  }

  /** What a sequence of so many tokens takes from the budget. */
  bytesOf(tokens: number): number {
    return this.#budget.bytesOf(tokens);
  }

  /** Promised to the open sequences; at most the budget. */
  get usedBytes(): number {
    return this.#budget.usedBytes;
  }

  get usedTokens(): number {
    return [...this.#sequences].reduce((sum, { row }) => sum + row.length, 0);
  }

  /** Memory that the arenas hold, free rows included; at most the budget. */
  get committedBytes(): number {
    return [...this.#arenas.values()].reduce((sum, arena) => sum + arena.committedBytes, 0);
  }

  /** @throws KvMemoryError `kv_memory_exhausted`; nothing has changed then */
  open(tokens: number): KvSequence {
    const capacity = capacityFor(this.#capacities, tokens);
    this.#budget.checkOpen(tokens);
    this.#makeRoom(capacity, 0);
    const sequence = { row: this.#addRow(capacity), reserved: tokens };
    this.#sequences.add(sequence);
    return sequence;
  }

  /**
   * Promises room for so many tokens in all.
   * @throws KvMemoryError `kv_memory_exhausted`; no sequence has lost anything then
   */
  reserve(sequences: readonly KvSequence[], tokensOf: (sequence: KvSequence) => number): void {
    const wanted = this.#budget.promise(sequences, tokensOf);
    for (const [index, sequence] of sequences.entries()) {
      const { reserved } = sequence;
      sequence.reserved = wanted[index]!;
      const capacity = capacityFor(this.#capacities, sequence.reserved);
      try {
        if (capacity > sequence.row.arena.capacity) this.#moveNow(sequence, capacity);
      } catch (error) {
        sequence.reserved = reserved;
        throw error;
      }
    }
  }

  close(sequence: KvSequence): void {
    if (this.#move?.sequence === sequence) this.#cancelMove();
    sequence.row.arena.remove(sequence.row);
    this.#sequences.delete(sequence);
  }

  /** Per piece [1, kvHeads, length, headDim], copied; valid until the next call of the store. */
  compact(sequence: KvSequence): Float32Array[] {
    return this.#scratch.compact(sequence.row);
  }

  /** [layers * 2, kvHeads, length, headDim], as a run returns them for one row. */
  copy({ row }: KvSequence): Float32Array {
    const pieces = pieceCount(this.#options.shape);
    const size = (row.length * bytesPerToken(this.#options.shape)) / Float32Array.BYTES_PER_ELEMENT / pieces;
    const out = new Float32Array(pieces * size);
    row.arena.compact(
      row,
      Array.from({ length: pieces }, (_, piece) => out.subarray(piece * size, (piece + 1) * size)),
    );
    return out;
  }

  /**
   * Makes room for one more token in each sequence, moves what is worth moving, and brings each arena's sequences
   * to its front.
   * @param cost null while nothing was measured: then rows stay in the arenas of their lengths
   * @throws KvMemoryError `kv_memory_exhausted`; no sequence has lost anything then
   */
  groups(sequences: readonly KvSequence[], cost: GroupCost | null): KvGroup[] {
    this.reserve(sequences, ({ row }) => row.length + 1);
    if (cost !== null) this.#moveAhead(sequences, cost);
    const groups = new Map<KvArena, KvSequence[]>();
    for (const sequence of sequences) {
      const group = groups.get(sequence.row.arena);
      if (group === undefined) groups.set(sequence.row.arena, [sequence]);
      else group.push(sequence);
    }
    return [...groups]
      .map(([arena, members]) => ({ arena, sequences: toFront(arena, members) }))
      .sort((one, other) => one.arena.capacity - other.arena.capacity);
  }

  #moveAhead(sequences: readonly KvSequence[], cost: GroupCost): void {
    const { maxContext, shape } = this.#options;
    const plan = planCapacities(
      sequences.map(({ row, reserved }) => ({
        capacity: row.arena.capacity,
        least: capacityFor(
          this.#capacities,
          Math.max(reserved, Math.min(row.length + aheadTokens, maxContext)),
        ),
        length: row.length,
      })),
      cost,
    );
    const target = new Map(sequences.map((sequence, index) => [sequence, plan[index]!]));
    const pending = sequences
      .filter((sequence) => target.get(sequence) !== sequence.row.arena.capacity)
      .sort((one, other) => roomOf(one) - roomOf(other));
    const under = this.#move;
    if (under !== null && target.get(under.sequence) !== under.move.to.arena.capacity) this.#cancelMove();
    let limit = (moveBytesPerStep / bytesPerToken(shape)) * pieceCount(shape); // tokens times pieces
    while (limit > 0 && (this.#move !== null || pending.length > 0)) {
      if (this.#move === null) {
        const sequence = pending.shift()!;
        if (target.get(sequence) === sequence.row.arena.capacity) continue;
        if (!this.#startMove(sequence, target.get(sequence)!)) return;
      }
      limit -= this.#move!.move.advance(limit);
      if (!this.#move!.move.isCopied) return;
      this.#finishMove();
    }
  }

  /** @returns false where there is no memory for the second place */
  #startMove(sequence: KvSequence, capacity: number): boolean {
    const arena = this.#arena(capacity);
    if (arena.freeRows === 0) {
      const { maxBytes } = this.#options;
      if (this.#neededBytes() + arena.rowBytes > maxBytes) return false;
      this.#trimTo(maxBytes - arena.rowBytes);
    }
    try {
      const move = new KvMove(sequence.row, this.#addRow(capacity), pieceCount(this.#options.shape));
      this.#move = { sequence, move };
      return true;
    } catch (error) {
      if (error instanceof KvMemoryError) return false;
      throw error;
    }
  }

  #finishMove(): void {
    const { sequence, move } = this.#move!;
    move.finish();
    sequence.row = move.to;
    move.from.arena.remove(move.from);
    this.#move = null;
  }

  #cancelMove(): void {
    const { to } = this.#move!.move;
    to.arena.remove(to);
    this.#move = null;
  }

  /**
   * Moves a sequence at once, through the scratch row: the new place takes memory by being written, once the old one
   * has given its memory back. Whatever finds none changes nothing.
   */
  #moveNow(sequence: KvSequence, capacity: number): void {
    if (this.#move?.sequence === sequence) {
      if (this.#move.move.to.arena.capacity === capacity) {
        this.#move.move.advance(Number.POSITIVE_INFINITY);
        return this.#finishMove();
      }
      this.#cancelMove();
    }
    const { row } = sequence;
    this.#makeRoom(capacity, row.arena.rowBytes);
    const { length } = row;
    const pieces = this.#scratch.compact(row);
    sequence.row = this.#addRow(capacity);
    row.arena.remove(row);
    this.#trimTo(this.#options.maxBytes);
    sequence.row.arena.restore(sequence.row, length, pieces);
  }

  /** Sees to it that a row of `capacity` can be had once `leavingBytes` of rows have left. */
  #makeRoom(capacity: number, leavingBytes: number): void {
    const arena = this.#arena(capacity);
    const limit = this.#options.maxBytes - arena.rowBytes + leavingBytes;
    if (this.#neededBytes() > limit && this.#move !== null) this.#cancelMove();
    for (const sequence of this.#sequences) {
      if (this.#neededBytes() <= limit) break;
      const own = capacityFor(this.#capacities, sequence.reserved);
      if (own < sequence.row.arena.capacity) this.#moveNow(sequence, own);
    }
    if (leavingBytes === 0 && arena.freeRows === 0) this.#trimTo(limit);
  }

  /** Bytes of the rows in use, wherever they are. */
  #neededBytes(): number {
    return [...this.#arenas.values()].reduce((sum, { rows, rowBytes }) => sum + rows.length * rowBytes, 0);
  }

  /** Gives free rows back until the arenas hold at most so many bytes. */
  #trimTo(bytes: number): void {
    for (const arena of this.#arenas.values()) {
      if (this.committedBytes <= bytes) return;
      arena.trim();
    }
  }

  #arena(capacity: number): KvArena {
    let arena = this.#arenas.get(capacity);
    if (arena === undefined) {
      arena = new KvArena(this.#options.shape, capacity, this.#options.maxRows);
      this.#arenas.set(capacity, arena);
    }
    return arena;
  }

  /** @throws KvMemoryError where the machine has no memory left; nothing has changed then */
  #addRow(capacity: number): KvRow {
    try {
      return this.#arena(capacity).add();
    } catch (cause) {
      if (!(cause instanceof RangeError)) throw cause;
      throw new KvMemoryError(
        "kv_memory_exhausted",
        `the machine has no memory left for keys and values of ${capacity} more tokens; wait for a sequence to finish, or lower --max-kv-bytes`,
        { cause },
      );
    }
  }
}

function roomOf({ row }: KvSequence): number {
  return row.arena.capacity - row.length;
}

/** Swaps as few rows as bring the members to the arena's front. @returns the members by row */
function toFront(arena: KvArena, members: readonly KvSequence[]): KvSequence[] {
  const rows = new Set(members.map(({ row }) => row));
  const places = arena.rows.slice(0, rows.size).filter((row) => !rows.has(row));
  for (const row of rows) if (row.index >= rows.size) arena.swap(row, places.pop()!);
  return [...members].sort((one, other) => one.row.index - other.row.index);
}
