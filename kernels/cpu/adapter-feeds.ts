// The adapter side of a run's inputs: which token each slot reads and with which weight its result is added.
// For decode the slots of the bank are read; a prefill chunk reads its one adapter's own arrays as one slot.

import type { AdapterTargets } from "../adapter.ts";
import { adapterSites } from "../adapter-sites.ts";
import { inputNames } from "../forward-graph.ts";
import { type Feeds, floatTensor, indexTensor } from "../session.ts";
import type { SiteAdapter } from "../site-adapter.ts";
import { type AdapterBank, type BankCopy, keyOf, rankBlock } from "./adapter-bank.ts";

/** A copy in the bank and the rows that read it, at most as many as the run's rows per slot. */
export type BankReaders = { readonly copy: BankCopy; readonly rows: readonly number[] };

/** Feeds of a decode step: P = rows, Q = 1, M = rowsPerSlot. */
export function decodeAdapterFeeds(
  bank: AdapterBank,
  step: { readonly rows: number; readonly readers: readonly BankReaders[]; readonly rowsPerSlot: number },
  layers: number,
): Feeds {
  const feeds: Feeds = {};
  const { rows, rowsPerSlot } = step;
  const readers = new Map(step.readers.map((reader) => [keyOf(reader.copy), reader.rows]));
  for (const sites of bank.sites) {
    const { site, slots } = sites;
    const used = slots.length;
    const tokens = new BigInt64Array(used * rowsPerSlot); // unused places read row 0 with weight 0
    const weights = new Float32Array(rows * used * rowsPerSlot);
    for (const [slot, { owner }] of slots.entries()) {
      for (const [place, row] of (readers.get(owner) ?? []).entries()) {
        tokens[slot * rowsPerSlot + place] = BigInt(row);
        weights[(slot * rowsPerSlot + place) * rows + row] = 1;
      }
    }
    feeds[inputNames.siteTokens(site.name)] = indexTensor(tokens, [used, rowsPerSlot, 1]);
    feeds[inputNames.siteWeights(site.name)] = floatTensor(weights, [used * rowsPerSlot, rows]);
    feeds[inputNames.siteDeltaShape(site.name)] = indexTensor([used * rowsPerSlot, site.out], [2]);
    feeds[inputNames.siteOutputShape(site.name)] = indexTensor([rows, site.out], [2]);
    for (let index = 0; index < layers; index++) {
      const { a, b } = sites.layer(index);
      feeds[inputNames.bankA(index, site.name)] = floatTensor(a, [used, 1, rankBlock, site.in]);
      feeds[inputNames.bankB(index, site.name)] = floatTensor(b, [used, 1, rankBlock, site.out]);
    }
  }
  return feeds;
}

/** Feeds of a prefill chunk: P = 1, Q = tokens, U = 1 (or 0 for the base alone), M = 1. */
export function prefillAdapterFeeds(
  adapter: SiteAdapter | null,
  tokens: number,
  targets: AdapterTargets,
): Feeds {
  const feeds: Feeds = {};
  for (const site of adapterSites(targets)) {
    const used = adapter !== null && adapter.rank(site.name) > 0 ? 1 : 0;
    const order = BigInt64Array.from({ length: used * tokens }, (_, token) => BigInt(token));
    feeds[inputNames.siteTokens(site.name)] = indexTensor(order, [used, 1, tokens]);
    feeds[inputNames.siteWeights(site.name)] = floatTensor(new Float32Array(used).fill(1), [used, 1]);
    feeds[inputNames.siteDeltaShape(site.name)] = indexTensor([used, tokens * site.out], [2]);
    feeds[inputNames.siteOutputShape(site.name)] = indexTensor([1, tokens * site.out], [2]);
    for (let layer = 0; layer < targets.layers; layer++) {
      const stack = used === 0 ? null : adapter!.stack(layer, site.name);
      const { a, b, rank } = stack ?? { a: new Float32Array(0), b: new Float32Array(0), rank: rankBlock };
      feeds[inputNames.bankA(layer, site.name)] = floatTensor(a, [used, 1, rank, site.in]);
      feeds[inputNames.bankB(layer, site.name)] = floatTensor(b, [used, 1, rank, site.out]);
    }
  }
  return feeds;
}
