// An adapter as the graph's sites take it: per layer and site one stack of virtual ranks (see adapter-sites.ts) and,
// where it has them, a scale and a shift of the site's output.

import {
  type AdapterModule,
  type AdapterTargets,
  adapterBytes,
  type ChannelsModule,
  type DecodedAdapter,
  type LowRankModule,
  modulesOf,
  type Projection,
  type ScaleModule,
} from "./adapter.ts";
import {
  type AdapterSite,
  adapterSites,
  type GraphFeature,
  graphFeatures,
  type SiteName,
} from "./adapter-sites.ts";
import {
  countSegments,
  cutIntoSegments,
  type PlacedSparse,
  type SparseSegments,
  segmentWidth,
} from "./sparse-segments.ts";

export type RankStack = {
  readonly rank: number;
  readonly a: Float32Array; // [rank, site.in]
  readonly b: Float32Array; // [rank, site.out]
};

export type SiteScale = {
  readonly scale: Float32Array; // [site.out]
  readonly shift: Float32Array; // [site.out]
};

type SiteLayer = {
  readonly stack: RankStack;
  readonly scale: SiteScale | null;
  readonly sparse: SparseSegments | null;
};

export class SiteAdapter {
  /** What the graph must offer for this adapter. */
  readonly features: ReadonlySet<GraphFeature>;
  readonly #sites: ReadonlyMap<SiteName, readonly SiteLayer[]>;
  readonly #ranks: ReadonlyMap<SiteName, number>;
  readonly #changed: ReadonlySet<SiteName>;

  constructor(adapter: DecodedAdapter, targets: AdapterTargets) {
    const places = new ModulePlaces(adapter);
    const sites = adapterSites(targets);
    this.#sites = new Map(
      sites.map((site) => [
        site.name,
        Array.from({ length: site.layers }, (_, layer) => ({
          stack: stackOf(site, ranksAt(site, layer, places)),
          scale: scaleOf(site, layer, places),
          sparse: sparseOf(site, layer, places),
        })),
      ]),
    );
    const layersOf = (site: SiteName) => this.#sites.get(site)!;
    this.#ranks = new Map(
      sites.map(({ name }) => [name, Math.max(...layersOf(name).map(({ stack }) => stack.rank))]),
    );
    const sitesWith = (has: (layer: SiteLayer) => boolean) =>
      sites.map(({ name }) => name).filter((name) => layersOf(name).some(has));
    const ranked = sitesWith(({ stack }) => stack.rank > 0);
    const scaled = sitesWith(({ scale }) => scale !== null);
    const sparse = sitesWith((layer) => layer.sparse !== null);
    this.#changed = new Set([...ranked, ...scaled, ...sparse]);
    const features: Record<GraphFeature, boolean> = {
      scale: scaled.length > 0,
      sparse: sparse.length > 0,
      head: this.#changed.has("head"),
    };
    this.features = new Set(graphFeatures.filter((feature) => features[feature]));
  }

  stack(layer: number, site: SiteName): RankStack {
    return this.#sites.get(site)![layer]!.stack;
  }

  scale(layer: number, site: SiteName): SiteScale | null {
    return this.#sites.get(site)![layer]!.scale;
  }

  sparse(layer: number, site: SiteName): SparseSegments | null {
    return this.#sites.get(site)![layer]!.sparse;
  }

  /** The largest number of virtual ranks that any layer has at the site. */
  rank(site: SiteName): number {
    return this.#ranks.get(site)!;
  }

  changes(site: SiteName): boolean {
    return this.#changed.has(site);
  }
}

/** Modules by kind and place. */
class ModulePlaces {
  readonly adapter: DecodedAdapter;
  readonly #byPlace = new Map<string, AdapterModule>();

  constructor(adapter: DecodedAdapter) {
    this.adapter = adapter;
    for (const module of adapter.modules) {
      if ("projection" in module) {
        this.#byPlace.set(`${module.kind} ${module.layer} ${module.projection}`, module);
      }
    }
  }

  find<Kind extends "low-rank" | "channels" | "scale" | "sparse">(
    kind: Kind,
    layer: number,
    projection: Projection,
  ) {
    return this.#byPlace.get(`${kind} ${layer} ${projection}`) as
      | Extract<AdapterModule, { kind: Kind }>
      | undefined;
  }
}

/** Ranks that write to columns of a site's output from `column` on. */
type PlacedRanks = RankStack & { readonly column: number };

const empty: RankStack = { rank: 0, a: new Float32Array(0), b: new Float32Array(0) };

function ranksAt(site: AdapterSite, layer: number, places: ModulePlaces): PlacedRanks[] {
  if (site.name === "head") return modulesOf(places.adapter, "head").map((head) => ({ ...head, column: 0 }));
  return site.parts.flatMap(({ projection, column }) => {
    const lowRank: LowRankModule | undefined = places.find("low-rank", layer, projection);
    const channels = places.find("channels", layer, projection);
    return [
      ...(lowRank === undefined ? [] : [{ ...lowRank, column }]),
      ...(channels === undefined ? [] : [{ ...channelRanks(channels, site.in), column }]),
    ];
  });
}

/** A channel is a rank that reads one input: it shares slots and products with every other adapter's ranks. */
function channelRanks({ channels, b }: ChannelsModule, inWidth: number): RankStack {
  const a = new Float32Array(channels.length * inWidth);
  for (const [rank, channel] of channels.entries()) a[rank * inWidth + channel] = 1;
  return { rank: channels.length, a, b };
}

function stackOf(site: AdapterSite, placed: readonly PlacedRanks[]): RankStack {
  const [first] = placed;
  if (first === undefined) return empty;
  if (placed.length === 1 && first.b.length === first.rank * site.out) return first;
  const rank = placed.reduce((sum, ranks) => sum + ranks.rank, 0);
  const a = new Float32Array(rank * site.in);
  const b = new Float32Array(rank * site.out);
  let at = 0;
  for (const ranks of placed) {
    a.set(ranks.a, at * site.in);
    placeColumns(ranks, { b, at, width: site.out });
    at += ranks.rank;
  }
  return { rank, a, b };
}

/** Copies b [rank, out] into columns [column, column + out) of rows [at, at + rank). */
function placeColumns(
  ranks: PlacedRanks,
  target: { readonly b: Float32Array; readonly at: number; readonly width: number },
): void {
  const out = ranks.b.length / ranks.rank;
  for (let rank = 0; rank < ranks.rank; rank++) {
    const row = ranks.b.subarray(rank * out, (rank + 1) * out);
    target.b.set(row, (target.at + rank) * target.width + ranks.column);
  }
}

function scaleOf(site: AdapterSite, layer: number, places: ModulePlaces): SiteScale | null {
  const modules = site.parts.flatMap(({ projection, column }) => {
    const module: ScaleModule | undefined = places.find("scale", layer, projection);
    return module === undefined ? [] : [{ module, column }];
  });
  if (modules.length === 0) return null;
  const scale = new Float32Array(site.out).fill(1);
  const shift = new Float32Array(site.out);
  for (const { module, column } of modules) {
    scale.set(module.scale, column);
    if (module.shift !== null) shift.set(module.shift, column);
  }
  return { scale, shift };
}

function placedSparse(site: AdapterSite, layer: number, places: ModulePlaces): PlacedSparse[] {
  return site.parts.flatMap(({ projection, column }) => {
    const module = places.find("sparse", layer, projection);
    return module === undefined ? [] : [{ module, firstOutput: column }];
  });
}

function sparseOf(site: AdapterSite, layer: number, places: ModulePlaces): SparseSegments | null {
  const placed = placedSparse(site, layer, places);
  return placed.length === 0 ? null : cutIntoSegments(placed, site.in);
}

/**
 * Bytes of an adapter in the engine, so that what is loaded can be bounded before it is. Those of a fused site
 * are more than its modules': each rank spans all of the site's outputs.
 */
export function servedBytes(adapter: DecodedAdapter, targets: AdapterTargets): number {
  const places = new ModulePlaces(adapter);
  let floats = 0;
  for (const site of adapterSites(targets)) {
    for (let layer = 0; layer < site.layers; layer++) {
      const modules = site.parts.flatMap(({ projection }) => [
        places.find("low-rank", layer, projection)?.rank ?? 0,
        places.find("channels", layer, projection)?.channels.length ?? 0,
      ]);
      floats += modules.reduce((sum, rank) => sum + rank, 0) * (site.in + site.out);
      if (scaleOf(site, layer, places) !== null) floats += 2 * site.out;
      for (const { module } of placedSparse(site, layer, places)) {
        floats += countSegments(module.indices, site.in) * (2 * segmentWidth + 1);
      }
    }
  }
  const whole = adapter.modules.filter((module) => !("projection" in module));
  return floats * Float32Array.BYTES_PER_ELEMENT + adapterBytes({ modules: whole });
}
