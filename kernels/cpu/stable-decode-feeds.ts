// What decode steps are fed that stays the same until rows, slots or memory change: hundreds of tensors, which are made
// anew only then. Each group of rows has a bank of adapter slots of its own.

import type { AdapterTargets } from "../adapter.ts";
import type { BaseModel } from "../base-model.ts";
import type { RunnerStats } from "../model-runner.ts";
import type { Feeds } from "../session.ts";
import type { SiteAdapter } from "../site-adapter.ts";
import { AdapterBank, slotLoadCounter } from "./adapter-bank.ts";
import { decodeAdapterFeeds } from "./adapter-feeds.ts";
import { indexes, type KvFeeds } from "./kv-feeds.ts";
import type { KvGroup } from "./kv-store.ts";
import { assignSlots } from "./slot-sharing.ts";
import type { TokenPairs } from "./token-pairs.ts";

export type StableDecodeParts = {
  readonly base: BaseModel;
  readonly targets: AdapterTargets;
  readonly adapters: ReadonlyMap<string, SiteAdapter>; // by version; the runner's
  readonly feeds: KvFeeds;
  readonly pairs: TokenPairs;
};

/** A group of rows and, for each of them, the version of its adapter. */
export type DecodeGroup = {
  readonly index: number; // among the step's groups
  readonly group: KvGroup;
  readonly versions: readonly (string | null)[];
  readonly isPlain: boolean; // for the session without adapter nodes
};

export class StableDecodeFeeds {
  readonly #parts: StableDecodeParts;
  readonly #banks: AdapterBank[] = []; // one for each group of rows
  readonly #loadTimes = slotLoadCounter();
  readonly #known = new Map<number, { readonly key: string; readonly feeds: Feeds }>(); // by capacity of the arena

  constructor(parts: StableDecodeParts) {
    this.#parts = parts;
  }

  /** Gives back what a step of these groups has no use for. */
  keep(groups: readonly KvGroup[]): void {
    for (const bank of this.#banks.slice(groups.length)) bank.hold([], this.#parts.adapters);
    for (const capacity of this.#known.keys()) {
      if (groups.every(({ arena }) => arena.capacity !== capacity)) this.#known.delete(capacity);
    }
  }

  /** Brings the rows' adapters into slots. The caller may add to the feeds what is the step's own. */
  of({ index, group: { arena }, versions, isPlain }: DecodeGroup): Feeds {
    const { base, targets, adapters, feeds: kvFeeds, pairs } = this.#parts;
    const rows = versions.length;
    this.#banks[index] ??= new AdapterBank(targets, this.#loadTimes);
    const bank = this.#banks[index];
    const assignment = assignSlots(versions);
    const copies = assignment.readers.map((reader) => reader.copy);
    bank.hold(copies, adapters);
    const state = [rows, arena.generation, index, bank.generation, base.features.size];
    const key = `${state.join(" ")} ${JSON.stringify(assignment)}`;
    const known = this.#known.get(arena.capacity);
    if (known?.key === key) return known.feeds;
    const rowAdapters = versions.map((version) => (version === null ? null : adapters.get(version)!));
    const step = { bank, rowAdapters, tokens: pairs.count(rows), ...assignment };
    const feeds: Feeds = {
      ...(isPlain ? {} : decodeAdapterFeeds(step, base.features)),
      ...kvFeeds.shapes(rows, 1, arena.capacity),
      ...kvFeeds.past(arena.firstRows(rows), rows, arena.capacity),
      ...pairs.shapes(rows),
      ...pairs.wanted(indexes(rows)),
    };
    this.#known.set(arena.capacity, { key, feeds });
    return feeds;
  }

  release(version: string): void {
    for (const bank of this.#banks) bank.release(version, this.#parts.adapters);
  }

  stats(): Pick<RunnerStats, "residentAdapters" | "slotLoadTimes" | "slotLoads" | "slotEvictions"> {
    return {
      residentAdapters: [...new Set(this.#banks.flatMap((bank) => bank.versions))],
      slotLoadTimes: this.#loadTimes.durations,
      slotLoads: this.#banks.reduce((sum, bank) => sum + bank.loads, 0),
      slotEvictions: this.#banks.reduce((sum, bank) => sum + bank.unloads, 0),
    };
  }
}
