// The adapter side of a run's inputs: which row each slot reads, and which rows its result is added to with which
// weight. For decode the slots of the bank are read; a prefill chunk reads its one adapter's own arrays as one slot.

import type { AdapterTargets } from "../adapter.ts";
import { adapterInputs, type SlotName } from "../adapter-graph.ts";
import { adapterSites, type GraphFeatures, servedSites } from "../adapter-sites.ts";
import { type BankCopy, keyOf } from "../held-copies.ts";
import { type Feeds, floatTensor, indexTensor } from "../session.ts";
import type { SiteAdapter } from "../site-adapter.ts";
import type { Slot } from "../slot-places.ts";
import { type AdapterBank, rankBlock } from "./adapter-bank.ts";
import { featureFeeds } from "./adapter-feature-feeds.ts";

/** A copy in the bank and the rows that read it, at most as many as the run's rows per slot. */
export type BankReaders = { readonly copy: BankCopy; readonly rows: readonly number[] };

export type DecodeAdapters = {
  readonly bank: AdapterBank;
  readonly readers: readonly BankReaders[];
  readonly rowsPerSlot: number;
  readonly rowAdapters: readonly (SiteAdapter | null)[]; // of each row of the run
  readonly tokens: number; // of the run
};

/** Where a slot's result for one row is. */
export type Part = { readonly slot: number; readonly place: number; readonly token: number };

/** The used slots of one kind. */
export type ReadSlots = {
  readonly slots: readonly Slot[];
  readonly readers: readonly BankReaders[];
  readonly changed: readonly number[]; // rows that get what the slots make
};

/** Feeds of a decode step: Q = B = 1, M = rowsPerSlot, R = the rows whose adapter changes the site. */
export function decodeAdapterFeeds(step: DecodeAdapters, features: GraphFeatures): Feeds {
  const feeds: Feeds = {};
  const { bank, readers, rowsPerSlot, rowAdapters, tokens: ofRun } = step;
  const sites = bank.sites.map(({ site, slots }, index) => ({ name: site.name, site, slots, index }));
  for (const { name, site, slots, index } of servedSites(sites, features)) {
    const changed = rowAdapters.flatMap((adapter, row) => (adapter?.changes(name) ? [row] : []));
    const used = slotsToRead(slots.length, rowsPerSlot);
    const parts = partsByRow({ slots, readers, changed });
    const tokens = new BigInt64Array(used * rowsPerSlot); // unused places read row 0, and nobody takes what they make
    for (const [row, places] of parts) {
      for (const { slot, place } of places) tokens[slot * rowsPerSlot + place] = BigInt(row);
    }
    feeds[adapterInputs.tokens(name)] = indexTensor(tokens, [used, rowsPerSlot, 1]);
    Object.assign(feeds, partFeeds(name, parts));
    for (let layer = 0; layer < site.layers; layer++) {
      const { a, b } = bank.sites[index]!.layer(layer, used);
      feeds[adapterInputs.a(layer, name)] = floatTensor(a, [used, 1, rankBlock, site.in]);
      feeds[adapterInputs.b(layer, name)] = floatTensor(b, [used, 1, rankBlock, site.out]);
    }
    const adapters = changed.map((row) => rowAdapters[row]!);
    Object.assign(feeds, featureFeeds({ site, adapters, rows: changed, tokens: ofRun }, features));
  }
  return feeds;
}

/** Which places serve each changed row, in the order of the slots; of slots that each read one token. */
export function partsByRow({ slots, readers, changed }: ReadSlots): Map<number, Part[]> {
  const rowsOf = new Map(readers.map(({ copy, rows }) => [keyOf(copy), rows]));
  const parts = new Map<number, Part[]>(changed.map((row) => [row, []]));
  for (const [slot, { owner }] of slots.entries()) {
    for (const [place, row] of (rowsOf.get(owner) ?? []).entries())
      parts.get(row)!.push({ slot, place, token: 0 });
  }
  return parts;
}

/** S is the most parts that a row has; who has fewer repeats its own first part with weight zero. */
export function partFeeds(site: SlotName, partsOf: ReadonlyMap<number, readonly Part[]>): Feeds {
  const rows = [...partsOf.values()];
  const most = Math.max(0, ...rows.map((parts) => parts.length));
  const places = new BigInt64Array(rows.length * most * 3);
  const weights = new Float32Array(rows.length * most);
  for (const [row, parts] of rows.entries()) {
    for (let index = 0; index < most; index++) {
      const { slot, place, token } = parts[index] ?? parts[0] ?? { slot: 0, place: 0, token: 0 };
      const at = row * most + index;
      places[at * 3] = BigInt(slot);
      places[at * 3 + 1] = BigInt(place);
      places[at * 3 + 2] = BigInt(token);
      weights[at] = index < parts.length ? 1 : 0;
    }
  }
  return {
    [adapterInputs.parts(site)]: indexTensor(places, [1, rows.length, most, 3]),
    [adapterInputs.weights(site)]: floatTensor(weights, [1, rows.length, 1, most]),
    [adapterInputs.rows(site)]: indexTensor([...partsOf.keys()], [1, rows.length, 1, 1]),
  };
}

/**
 * A single slot that several rows read would be one matrix product of all rows, whose bits are not those of a row
 * alone. So the place behind it, used or not, is read too, for nobody.
 */
function slotsToRead(used: number, rowsPerSlot: number): number {
  return used === 1 && rowsPerSlot > 1 ? 2 : used;
}

export type PrefillAdapter = {
  readonly adapter: SiteAdapter | null;
  readonly tokens: number;
  readonly wanted: number; // tokens whose logits are wanted: what the head sees
};

/** Feeds of a prefill chunk: B = Q = tokens, R = 1, U = 1 (or 0 for the base alone), M = 1. */
export function prefillAdapterFeeds(
  chunk: PrefillAdapter,
  targets: AdapterTargets,
  features: GraphFeatures,
): Feeds {
  const feeds: Feeds = {};
  for (const site of servedSites(adapterSites(targets), features)) {
    const { name } = site;
    const tokens = name === "head" ? chunk.wanted : chunk.tokens;
    const adapter = chunk.adapter?.changes(name) && tokens > 0 ? chunk.adapter : null;
    const used = adapter !== null && adapter.rank(name) > 0 ? 1 : 0;
    const changed = adapter === null ? 0 : 1;
    const order = BigInt64Array.from({ length: changed * tokens }, (_, token) => BigInt(token));
    feeds[adapterInputs.tokens(name)] = indexTensor(order.subarray(0, used * tokens), [used, 1, tokens]);
    const groups = adapter === null ? 1 : tokens;
    const parts = new BigInt64Array(changed * tokens * used * 3);
    for (let token = 0; token < parts.length / 3; token++) parts[token * 3 + 2] = BigInt(token);
    const weights = new Float32Array(changed * tokens * used).fill(1);
    feeds[adapterInputs.parts(name)] = indexTensor(parts, [groups, changed, used, 3]);
    feeds[adapterInputs.weights(name)] = floatTensor(weights, [groups, changed, 1, used]);
    feeds[adapterInputs.rows(name)] = indexTensor(order, [groups, changed, 1, 1]);
    for (let layer = 0; layer < site.layers; layer++) {
      const stack = used === 0 ? null : adapter!.stack(layer, name);
      const { a, b, rank } = stack ?? { a: new Float32Array(0), b: new Float32Array(0), rank: rankBlock };
      feeds[adapterInputs.a(layer, name)] = floatTensor(a, [used, 1, rank, site.in]);
      feeds[adapterInputs.b(layer, name)] = floatTensor(b, [used, 1, rank, site.out]);
    }
    const adapters = adapter === null ? [] : [adapter];
    Object.assign(feeds, featureFeeds({ site, adapters, rows: null, tokens }, features));
  }
  return feeds;
}
