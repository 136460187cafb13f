// The adapter side of a run's inputs on the device: which rows each slot reads, and which rows its result is added to.
// The tokens of a prompt are the rows of a run whose one adapter they all read. Where nobody has an adapter of a kind,
// one unused slot reads row 0 and adds its zeros there: the device takes no empty inputs.

import { adapterInputs, type SlotName } from "../adapter-graph.ts";
import type { SiteName } from "../adapter-sites.ts";
import { rankBlock } from "../cpu/adapter-bank.ts";
import { type BankReaders, type Part, partFeeds, partsByRow } from "../cpu/adapter-feeds.ts";
import { indexes } from "../cpu/kv-feeds.ts";
import { keyOf } from "../held-copies.ts";
import { type Feeds, floatTensor, indexTensor, int32Tensor } from "../session.ts";
import type { Slot } from "../slot-places.ts";
import type { GpuAdapter, SlotLayers } from "./gpu-adapter.ts";
import { type DeviceFeatures, embeddingRanks, scaleInputs, sparseInputs } from "./gpu-adapter-graph.ts";
import type { GpuBuffer } from "./gpu-session.ts";
import { embeddingBlocks, embeddingRanksOf, type SlotKind, type SlotKinds } from "./gpu-slot-kinds.ts";

/** Where slots are on the device, and who has them. */
export interface SlotSource {
  readonly baseSlots: 0 | 1; // in front of the others, of kinds that have one
  slots(kind: SlotKind): readonly Slot[];
  layers(kind: SlotKind): SlotLayers | null; // null where nobody has a slot
}

export type StepRow = {
  readonly adapter: GpuAdapter | null;
  readonly tokenId: number | null; // null where its embedding comes from elsewhere
};

export type StepRows = {
  readonly rows: readonly StepRow[];
  readonly readers: readonly BankReaders[];
  readonly rowsPerSlot: number;
  readonly isPrompt: boolean;
};

export type AdapterRun = {
  readonly tokens: StepRows;
  readonly head: StepRows; // those whose logits are wanted
  readonly source: SlotSource;
};

export type FeedParts = {
  readonly kinds: SlotKinds;
  readonly base: GpuAdapter;
  readonly zeros: GpuBuffer; // a slot of the widest kind: what a real one held before may be infinite
};

/** Tokens of one sequence, and what its adapter has on the device. */
export function promptRows(adapter: GpuAdapter | null, tokenIds: readonly (number | null)[]): StepRows {
  const readers = adapter === null ? [] : [{ copy: promptCopy, rows: indexes(tokenIds.length) }];
  const rows = tokenIds.map((tokenId) => ({ adapter, tokenId }));
  return { rows, readers, rowsPerSlot: rows.length, isPrompt: true };
}

export function promptSource(adapter: GpuAdapter | null): SlotSource {
  const owner = keyOf(promptCopy);
  return {
    baseSlots: 0,
    slots: (kind) => indexes(adapter?.slots(kind) ?? 0).map((block) => ({ owner, block })),
    layers: (kind) => adapter?.layers(kind) ?? null,
  };
}

const promptCopy = { version: "", copy: 0 };

/** @param features of the graph that runs */
export function adapterFeeds(run: AdapterRun, features: DeviceFeatures, parts: FeedParts): Feeds {
  const feeds: Feeds = {};
  const layers = new StepFeeds(run.tokens, run.source, parts);
  const head = new StepFeeds(run.head, run.source, parts);
  for (const { site, ranks, changes } of parts.kinds.sites) {
    if (changes === null && !features.has("head")) continue;
    Object.assign(feeds, (changes === null ? head : layers).ranks(site.name, ranks));
    if (changes === null) continue;
    if (features.has("scale")) Object.assign(feeds, layers.scale(site.name, changes.scale));
    if (features.has("sparse")) Object.assign(feeds, layers.sparse(site.name, changes.sparse));
  }
  if (features.has("embedding")) Object.assign(feeds, layers.embedding(parts.kinds.embedding));
  return feeds;
}

/** Of one kind of slot after another. */
class StepFeeds {
  readonly #step: StepRows;
  readonly #source: SlotSource;
  readonly #parts: FeedParts;

  constructor(step: StepRows, source: SlotSource, parts: FeedParts) {
    this.#step = step;
    this.#source = source;
    this.#parts = parts;
  }

  ranks(site: SiteName, kind: SlotKind): Feeds {
    const places = this.#placesOf(kind);
    const dims = this.#dims(kind, places, this.#step.isPrompt);
    const tokens = new BigInt64Array(dims[0] * dims[1] * dims[2]); // unused places read row 0, for nobody
    for (const [row, own] of places) for (const part of own) tokens[this.#placeIn(part)] = BigInt(row);
    return {
      ...this.#arrays(kind, places),
      ...this.#partFeeds(site, places),
      [adapterInputs.tokens(site)]: indexTensor(tokens, dims),
    };
  }

  embedding(kind: SlotKind): Feeds {
    const { rows } = this.#step;
    const slots = this.#source.slots(kind);
    const places = rows.some(({ tokenId }) => tokenId === null) ? new Map() : this.#placesOf(kind);
    const dims = this.#dims(kind, places, this.#step.isPrompt);
    const ranks = new Float32Array(dims[0] * dims[1] * dims[2] * rankBlock);
    for (const [row, own] of places) {
      const { adapter, tokenId } = rows[row]!;
      const blocks = embeddingBlocks(adapter!.adapter);
      for (const part of own) {
        const values = embeddingRanksOf(blocks[slots[part.slot]!.block]!, tokenId!);
        ranks.set(values, this.#placeIn(part) * rankBlock);
      }
    }
    return {
      ...this.#arrays(kind, places),
      ...this.#partFeeds("embedding", places),
      [embeddingRanks]: floatTensor(ranks, [...dims, rankBlock]),
    };
  }

  /** One index where all rows have the same. */
  scale(site: SiteName, kind: SlotKind): Feeds {
    const places = this.#placesOf(kind);
    const slots = indexes(this.#step.rows.length).map((row) => {
      const own = places.get(row)?.[0];
      return own === undefined ? 0 : own.slot + this.#source.baseSlots;
    });
    const isOne = slots.every((slot) => slot === slots[0]);
    return {
      ...this.#arrays(kind, places),
      [scaleInputs.slots(site)]: words(isOne ? slots.slice(0, 1) : slots),
    };
  }

  sparse(site: SiteName, kind: SlotKind): Feeds {
    const places = this.#placesOf(kind);
    const [slots, perSlot] = this.#dims(kind, places, false);
    const tokens = Array<number>(perSlot * slots).fill(0);
    const parts = places.size === 0 ? [0] : [];
    for (const [row, [own]] of places) {
      const at = own!.place * slots + own!.slot;
      tokens[at] = row;
      parts.push(at);
    }
    const rows = places.size === 0 ? [0] : [...places.keys()];
    return {
      ...this.#arrays(kind, places),
      [sparseInputs.tokens(site)]: words(tokens, [perSlot, slots]),
      [sparseInputs.parts(site)]: words(parts),
      [sparseInputs.rows(site)]: indexTensor(rows, [rows.length, 1]),
    };
  }

  /** Where the results of each row are whose adapter has the kind. */
  #placesOf(kind: SlotKind): Places {
    const { rows, readers } = this.#step;
    const changed = indexes(rows.length).filter((row) => (rows[row]!.adapter?.slots(kind) ?? 0) > 0);
    return partsByRow({ slots: this.#source.slots(kind), readers, changed });
  }

  /** Slots, readers of each, tokens of each reader. */
  #dims(kind: SlotKind, places: Places, isPrompt: boolean): readonly [number, number, number] {
    if (places.size === 0) return [1, 1, 1];
    const slots = this.#source.slots(kind).length;
    const { rowsPerSlot } = this.#step;
    return isPrompt ? [slots, 1, rowsPerSlot] : [slots, rowsPerSlot, 1];
  }

  #placeIn({ slot, place }: Part): number {
    return slot * this.#step.rowsPerSlot + place;
  }

  #partFeeds(name: SlotName, places: Places): Feeds {
    if (places.size === 0) return partFeeds(name, unusedParts);
    if (!this.#step.isPrompt) return partFeeds(name, places);
    const asTokens = ({ slot, place }: Part): Part => ({ slot, place: 0, token: place });
    return partFeeds(name, new Map([...places].map(([row, parts]) => [row, parts.map(asTokens)])));
  }

  #arrays(kind: SlotKind, places: Places): Feeds {
    const { base, zeros } = this.#parts;
    const isUsed = places.size > 0;
    const layers = isUsed ? this.#source.layers(kind) : base.layers(kind);
    const first = isUsed && kind.hasBase ? this.#source.baseSlots : 0;
    const slots = isUsed ? this.#source.slots(kind).length + first : 1;
    const feeds: Feeds = {};
    for (let layer = 0; layer < kind.layers; layer++) {
      for (const [index, { input, type, width: least, dims }] of kind.arrays.entries()) {
        const { buffer, width } = layers?.[layer]?.[index] ?? { buffer: zeros, width: least };
        const shape = dims(slots, width);
        feeds[input(layer)] = type === "int32" ? buffer.words(shape) : buffer.view(shape);
      }
    }
    return feeds;
  }
}

type Places = ReadonlyMap<number, readonly Part[]>;

const unusedParts: Places = new Map([[0, [{ slot: 0, place: 0, token: 0 }]]]);

function words(values: readonly number[], dims: readonly number[] = [values.length]): Feeds[string] {
  return int32Tensor(Int32Array.from(values), dims);
}
