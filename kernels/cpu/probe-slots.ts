// The temporary slots of a probe: one for each of its adapters, with all ranks that it has at a site. They exist while
// the probe does, beside the slots of whoever decodes.

import type { AdapterTargets } from "../adapter.ts";
import { adapterInputs } from "../adapter-graph.ts";
import { type AdapterSite, adapterSites, type GraphFeatures, servedSites } from "../adapter-sites.ts";
import { type Feeds, floatTensor, indexTensor } from "../session.ts";
import type { RankStack, SiteAdapter } from "../site-adapter.ts";
import { featureFeeds } from "./adapter-feature-feeds.ts";
import { indexes } from "./kv-feeds.ts";

type SiteSlots = {
  readonly name: AdapterSite["name"];
  readonly site: AdapterSite;
  readonly rows: readonly number[]; // of the probe, whose adapters change the site: a slot each
  readonly stacks: readonly RankStack[]; // per layer a [slots, rank, in], b [slots, rank, out]
};

/** `ofRun` may be one more than those of all rows (token-pairs.ts). */
export type ProbeTokens = { readonly perRow: number; readonly ofRun: number };

export class ProbeSlots {
  readonly #adapters: readonly SiteAdapter[]; // by row
  readonly #sites: readonly SiteSlots[];

  constructor(adapters: readonly SiteAdapter[], targets: AdapterTargets) {
    this.#adapters = adapters;
    this.#sites = adapterSites(targets).map((site) => {
      const rows = indexes(adapters.length).filter((row) => adapters[row]!.changes(site.name));
      const readers = rows.map((row) => adapters[row]!);
      const stacks = indexes(site.layers).map((layer) =>
        joined(
          readers.map((adapter) => adapter.stack(layer, site.name)),
          site,
        ),
      );
      return { name: site.name, site, rows, stacks };
    });
  }

  /** Feeds of a run of so many tokens in every row: M = 1, Q = tokens, B = 1, R = the changed tokens, S = 1. */
  feeds({ perRow: tokens, ofRun }: ProbeTokens, features: GraphFeatures): Feeds {
    const feeds: Feeds = {};
    for (const { name, site, rows, stacks } of servedSites(this.#sites, features)) {
      const changed = rows.flatMap((row) => indexes(tokens).map((token) => row * tokens + token));
      const parts = rows.flatMap((_, slot) => indexes(tokens).flatMap((token) => [slot, 0, token]));
      const dims = [1, changed.length, 1, 1];
      feeds[adapterInputs.tokens(name)] = indexTensor(changed, [rows.length, 1, tokens]);
      feeds[adapterInputs.rows(name)] = indexTensor(changed, dims);
      feeds[adapterInputs.parts(name)] = indexTensor(parts, [1, changed.length, 1, 3]);
      feeds[adapterInputs.weights(name)] = floatTensor(new Float32Array(changed.length).fill(1), dims);
      for (const [layer, { rank, a, b }] of stacks.entries()) {
        feeds[adapterInputs.a(layer, name)] = floatTensor(a, [rows.length, 1, rank, site.in]);
        feeds[adapterInputs.b(layer, name)] = floatTensor(b, [rows.length, 1, rank, site.out]);
      }
      const adapters = changed.map((token) => this.#adapters[Math.floor(token / tokens)]!);
      const run = { site, adapters, rows: changed, tokens: ofRun };
      Object.assign(feeds, featureFeeds(run, features));
    }
    return feeds;
  }
}

/** One after another; ranks that a stack has less than the largest are zeros. */
function joined(stacks: readonly RankStack[], site: AdapterSite): RankStack {
  const rank = Math.max(0, ...stacks.map((stack) => stack.rank));
  const a = new Float32Array(stacks.length * rank * site.in);
  const b = new Float32Array(stacks.length * rank * site.out);
  for (const [slot, stack] of stacks.entries()) {
    a.set(stack.a, slot * rank * site.in);
    b.set(stack.b, slot * rank * site.out);
  }
  return { rank, a, b };
}
