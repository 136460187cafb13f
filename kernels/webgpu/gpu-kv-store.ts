// Where the keys and values of open sequences lie on the device. While its prompt is read a sequence has buffers of
// its own; to decode it gets a row in the arena of its capacity, and rows that decode together lie at the arena's
// front, because a view of a buffer begins at its beginning. A row is written whole when it is taken, so that nothing
// of its last owner is left, be it infinite.

import { bytesPerToken, type KvShape } from "../cpu/kv-arena.ts";
import { capacityFor } from "../cpu/kv-buckets.ts";
import { KvBudget } from "../kv-budget.ts";
import { disposeKv, type GpuKvMoves, type KvBuffers } from "./gpu-kv-moves.ts";

export type GpuKvSequence = {
  length: number; // tokens
  reserved: number; // tokens that it was promised room for
  own: KvBuffers | null;
  row: GpuKvRow | null;
};

type GpuKvRow = { readonly arena: GpuKvArena; index: number };

export type GpuKvArena = {
  readonly capacity: number;
  kv: KvBuffers;
  readonly owners: (GpuKvSequence | null)[]; // by row
};

export type GpuKvGroup = { readonly kv: KvBuffers; readonly sequences: readonly GpuKvSequence[] };

export type GpuKvStoreOptions = {
  readonly shape: KvShape;
  readonly maxRows: number;
  readonly maxContext: number;
  readonly maxBytes: number;
};

const smallestCapacity = 128; // tokens

export class GpuKvStore {
  readonly #options: GpuKvStoreOptions;
  readonly #moves: GpuKvMoves;
  readonly #capacities: readonly number[];
  readonly #arenas = new Map<number, GpuKvArena>(); // by capacity
  readonly #sequences = new Set<GpuKvSequence>();
  readonly #budget: KvBudget;

  /** @throws KvMemoryError `kv_budget_too_small` where one sequence of the whole context would not fit */
  constructor(options: GpuKvStoreOptions, moves: GpuKvMoves) {
    this.#options = options;
    this.#moves = moves;
    this.#capacities = capacitiesUpTo(options.maxContext);
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
    return [...this.#sequences].reduce((sum, { length }) => sum + length, 0);
  }

  /** Takes nothing of the device yet. @throws KvMemoryError `kv_memory_exhausted`; nothing has changed then */
  open(tokens: number): GpuKvSequence {
    this.#budget.checkOpen(tokens);
    const sequence: GpuKvSequence = { length: 0, reserved: tokens, own: null, row: null };
    this.#sequences.add(sequence);
    return sequence;
  }

  /**
   * Promises room for so many tokens in all.
   * @throws KvMemoryError `kv_memory_exhausted`; nothing has changed then
   */
  reserve(sequences: readonly GpuKvSequence[], tokensOf: (sequence: GpuKvSequence) => number): void {
    const wanted = this.#budget.promise(sequences, tokensOf);
    for (const [index, sequence] of sequences.entries()) sequence.reserved = wanted[index]!;
  }

  close(sequence: GpuKvSequence): void {
    if (sequence.own !== null) disposeKv(sequence.own);
    if (sequence.row !== null) sequence.row.arena.owners[sequence.row.index] = null;
    sequence.own = null;
    sequence.row = null;
    this.#sequences.delete(sequence);
  }

  /** @returns the sequence's own buffers, with room for what it was promised */
  async takeOut(sequence: GpuKvSequence): Promise<KvBuffers> {
    const capacity = capacityFor(this.#capacities, sequence.reserved);
    if (sequence.row !== null) {
      const { arena, index } = sequence.row;
      sequence.own = await this.#moves.read(arena.kv, index);
      arena.owners[index] = null;
      sequence.row = null;
    }
    sequence.own ??= await this.#moves.allocate(1, capacity);
    if (sequence.own.capacity < capacity) {
      const wider = await this.#moves.widen(sequence.own, capacity);
      disposeKv(sequence.own);
      sequence.own = wider;
    }
    return sequence.own;
  }

  /** Gives each sequence a row with room for what it was promised, and brings each arena's to its front. */
  async groups(sequences: readonly GpuKvSequence[]): Promise<GpuKvGroup[]> {
    this.#dropEmptyArenas();
    for (const sequence of sequences) {
      const capacity = capacityFor(this.#capacities, sequence.reserved);
      if (sequence.row !== null && sequence.row.arena.capacity < capacity) await this.takeOut(sequence);
      if (sequence.row === null) await this.#putIn(sequence);
    }
    const byArena = Map.groupBy(sequences, ({ row }) => row!.arena);
    const groups: GpuKvGroup[] = [];
    for (const [arena, members] of byArena) {
      await this.#bringToFront(arena, members);
      groups.push({ kv: arena.kv, sequences: members.toSorted((a, b) => a.row!.index - b.row!.index) });
    }
    return groups.sort((one, other) => one.kv.capacity - other.kv.capacity);
  }

  /** Gives all of the memory back. */
  dispose(): void {
    for (const sequence of [...this.#sequences]) this.close(sequence);
    this.#dropEmptyArenas();
  }

  async #putIn(sequence: GpuKvSequence): Promise<void> {
    const own = await this.takeOut(sequence);
    const arena = await this.#arenaOf(own.capacity);
    const hole = arena.owners.indexOf(null);
    const index = hole < 0 ? arena.owners.length : hole;
    if (index === arena.kv.rows) await this.#addRows(arena);
    await this.#moves.write(own, arena.kv, index);
    disposeKv(own);
    sequence.own = null;
    sequence.row = { arena, index };
    arena.owners[index] = sequence;
  }

  async #bringToFront(arena: GpuKvArena, members: readonly GpuKvSequence[]): Promise<void> {
    const isMember = new Set<GpuKvSequence | null>(members);
    for (const sequence of members) {
      if (sequence.row!.index < members.length) continue;
      const free = arena.owners.findIndex((owner) => !isMember.has(owner));
      const other = arena.owners[free] ?? null;
      if (other !== null) await this.takeOut(other);
      await this.#moveTo(sequence, free);
      if (other !== null) await this.#putIn(other);
    }
  }

  async #moveTo(sequence: GpuKvSequence, index: number): Promise<void> {
    const { arena, index: from } = sequence.row!;
    const copy = await this.#moves.read(arena.kv, from);
    await this.#moves.write(copy, arena.kv, index);
    disposeKv(copy);
    arena.owners[from] = null;
    arena.owners[index] = sequence;
    sequence.row!.index = index;
  }

  async #arenaOf(capacity: number): Promise<GpuKvArena> {
    let arena = this.#arenas.get(capacity);
    if (arena === undefined) {
      await this.#makeRoom(capacity);
      arena = { capacity, kv: await this.#moves.allocate(1, capacity), owners: [] };
      this.#arenas.set(capacity, arena);
    }
    return arena;
  }

  /** Twice as many, so that rows that come one by one are copied few times; one more where memory is short. */
  async #addRows(arena: GpuKvArena): Promise<void> {
    const { rows } = arena.kv;
    const doubled = Math.min(this.#options.maxRows, rows * 2);
    const isRoomy = await this.#makeRoom((doubled - rows) * arena.capacity);
    const larger = await this.#moves.allocate(isRoomy ? doubled : rows + 1, arena.capacity);
    await this.#moves.write(arena.kv, larger, 0);
    disposeKv(arena.kv);
    arena.kv = larger;
  }

  /**
   * Gives free rows back until the arenas may have so many tokens more.
   * @returns false where all free rows together are not enough
   */
  async #makeRoom(tokens: number): Promise<boolean> {
    const most = this.#options.maxBytes / bytesPerToken(this.#options.shape) - tokens;
    const arenaTokens = () =>
      [...this.#arenas.values()].reduce((sum, { kv }) => sum + kv.rows * kv.capacity, 0);
    this.#dropEmptyArenas();
    for (const arena of this.#arenas.values()) {
      if (arenaTokens() <= most) return true;
      await this.#trim(arena);
    }
    return arenaTokens() <= most;
  }

  async #trim(arena: GpuKvArena): Promise<void> {
    const owners = arena.owners.filter((owner) => owner !== null);
    if (owners.length === arena.kv.rows) return;
    await this.#bringToFront(arena, owners);
    const smaller = await this.#moves.allocate(owners.length, arena.capacity);
    await this.#moves.write({ ...arena.kv, rows: owners.length }, smaller, 0);
    disposeKv(arena.kv);
    arena.kv = smaller;
    arena.owners.length = owners.length;
  }

  #dropEmptyArenas(): void {
    for (const [capacity, { kv, owners }] of this.#arenas) {
      if (owners.some((owner) => owner !== null)) continue;
      disposeKv(kv);
      this.#arenas.delete(capacity);
    }
  }
}

/** 128, 256, 512, ...; the last is the least multiple of 64 that holds `maxContext`. */
export function capacitiesUpTo(maxContext: number): number[] {
  const last = Math.ceil(maxContext / 64) * 64;
  const capacities: number[] = [];
  for (let capacity = smallestCapacity; capacity < last; capacity *= 2) capacities.push(capacity);
  return [...capacities, last];
}
