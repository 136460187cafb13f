// An adapter as the graph's sites take it: per layer and site one stack of virtual ranks (see adapter-sites.ts).

import { type AdapterTargets, type DecodedAdapter, type LowRankModule, modulesOf } from "./adapter.ts";
import { type AdapterSite, adapterSites, type SiteName } from "./adapter-sites.ts";

export type RankStack = {
  readonly rank: number;
  readonly a: Float32Array; // [rank, site.in]
  readonly b: Float32Array; // [rank, site.out]
};

const empty: RankStack = { rank: 0, a: new Float32Array(0), b: new Float32Array(0) };

export class SiteAdapter {
  readonly #stacks: ReadonlyMap<SiteName, readonly RankStack[]>; // [layers] each
  readonly #ranks: ReadonlyMap<SiteName, number>;

  constructor(adapter: DecodedAdapter, targets: AdapterTargets) {
    const sites = adapterSites(targets);
    this.#stacks = new Map(
      sites.map((site) => [
        site.name,
        Array.from({ length: targets.layers }, (_, layer) => stackModules(site, layer, adapter, targets)),
      ]),
    );
    this.#ranks = new Map(
      sites.map(({ name }) => [name, Math.max(...this.#stacks.get(name)!.map((stack) => stack.rank))]),
    );
  }

  stack(layer: number, site: SiteName): RankStack {
    return this.#stacks.get(site)![layer]!;
  }

  /** The largest number of virtual ranks that any layer has at the site. */
  rank(site: SiteName): number {
    return this.#ranks.get(site)!;
  }
}

function stackModules(
  site: AdapterSite,
  layer: number,
  adapter: DecodedAdapter,
  targets: AdapterTargets,
): RankStack {
  const modules = site.parts.flatMap(({ projection, column }) => {
    const module = modulesOf(adapter, "low-rank").find(
      (item) => item.layer === layer && item.projection === projection,
    );
    return module === undefined ? [] : [{ module, column }];
  });
  const [first] = modules;
  if (first === undefined) return empty;
  if (modules.length === 1 && site.parts.length === 1) return first.module;
  const rank = modules.reduce((sum, { module }) => sum + module.rank, 0);
  const a = new Float32Array(rank * site.in);
  const b = new Float32Array(rank * site.out);
  let at = 0;
  for (const { module, column } of modules) {
    a.set(module.a, at * site.in);
    placeColumns(module, targets.shapes[module.projection].out, { b, at, column, width: site.out });
    at += module.rank;
  }
  return { rank, a, b };
}

/** Copies a module's b [rank, out] into columns [column, column + out) of rows [at, at + rank). */
function placeColumns(
  module: LowRankModule,
  out: number,
  target: { readonly b: Float32Array; readonly at: number; readonly column: number; readonly width: number },
): void {
  for (let rank = 0; rank < module.rank; rank++) {
    const row = module.b.subarray(rank * out, (rank + 1) * out);
    target.b.set(row, (target.at + rank) * target.width + target.column);
  }
}
