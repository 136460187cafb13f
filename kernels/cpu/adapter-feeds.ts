// The adapter side of a run's inputs: which row each slot reads, and which rows its result is added to with which
// weight. For decode the slots of the bank are read; a prefill chunk reads its one adapter's own arrays as one slot.

import type { AdapterTargets } from "../adapter.ts";
import { adapterInputs } from "../adapter-graph.ts";
import { adapterSites, type GraphFeatures, type SiteName, servedSites } from "../adapter-sites.ts";
import { type Feeds, floatTensor, indexTensor } from "../session.ts";
import type { SiteAdapter } from "../site-adapter.ts";
import { type AdapterBank, type BankCopy, keyOf, rankBlock } from "./adapter-bank.ts";
import { featureFeeds } from "./adapter-feature-feeds.ts";

/** A copy in the bank and the rows that read it, at most as many as the run's rows per slot. */
export type BankReaders = { readonly copy: BankCopy; readonly rows: readonly number[] };

export type DecodeAdapters = {
  readonly bank: AdapterBank;
  readonly readers: readonly BankReaders[];
  readonly rowsPerSlot: number;
  readonly rowAdapters: readonly (SiteAdapter | null)[]; // of each row of the run
};

/** Where a slot's result for one row is. */
type Part = { readonly slot: number; readonly place: number };

/** Feeds of a decode step: Q = B = 1, M = rowsPerSlot, R = the rows whose adapter changes the site. */
export function decodeAdapterFeeds(step: DecodeAdapters, features: GraphFeatures): Feeds {
  const feeds: Feeds = {};
  const { bank, rowsPerSlot, rowAdapters } = step;
  const readers = new Map(step.readers.map((reader) => [keyOf(reader.copy), reader.rows]));
  const sites = bank.sites.map(({ site, slots }, index) => ({ name: site.name, site, slots, index }));
  for (const { name, site, slots, index } of servedSites(sites, features)) {
    const changed = rowAdapters.flatMap((adapter, row) => (adapter?.changes(name) ? [row] : []));
    const used = slotsToRead(slots.length, rowsPerSlot);
    const tokens = new BigInt64Array(used * rowsPerSlot); // unused places read row 0, and nobody takes what they make
    const parts = new Map<number, Part[]>(changed.map((row) => [row, []]));
    for (const [slot, { owner }] of slots.entries()) {
      for (const [place, row] of (readers.get(owner) ?? []).entries()) {
        tokens[slot * rowsPerSlot + place] = BigInt(row);
        parts.get(row)!.push({ slot, place });
      }
    }
    feeds[adapterInputs.tokens(name)] = indexTensor(tokens, [used, rowsPerSlot, 1]);
    feeds[adapterInputs.rows(name)] = indexTensor(changed, [1, changed.length, 1, 1]);
    Object.assign(feeds, partFeeds(name, [...parts.values()]));
    for (let layer = 0; layer < site.layers; layer++) {
      const { a, b } = bank.sites[index]!.layer(layer, used);
      feeds[adapterInputs.a(layer, name)] = floatTensor(a, [used, 1, rankBlock, site.in]);
      feeds[adapterInputs.b(layer, name)] = floatTensor(b, [used, 1, rankBlock, site.out]);
    }
    const adapters = changed.map((row) => rowAdapters[row]!);
    Object.assign(
      feeds,
      featureFeeds({ site, adapters, rows: changed, tokens: rowAdapters.length }, features),
    );
  }
  return feeds;
}

/** S is the most parts that a row has; who has fewer repeats its own first part with weight zero. */
function partFeeds(site: SiteName, rows: readonly (readonly Part[])[]): Feeds {
  const most = Math.max(0, ...rows.map((parts) => parts.length));
  const places = new BigInt64Array(rows.length * most * 3); // the token is the slot's only one
  const weights = new Float32Array(rows.length * most);
  for (const [row, parts] of rows.entries()) {
    for (let index = 0; index < most; index++) {
      const { slot, place } = parts[index] ?? parts[0] ?? { slot: 0, place: 0 };
      const at = row * most + index;
      places[at * 3] = BigInt(slot);
      places[at * 3 + 1] = BigInt(place);
      weights[at] = index < parts.length ? 1 : 0;
    }
  }
  return {
    [adapterInputs.parts(site)]: indexTensor(places, [1, rows.length, most, 3]),
    [adapterInputs.weights(site)]: floatTensor(weights, [1, rows.length, 1, most]),
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
