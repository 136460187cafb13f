// Where adapters enter the graph. A site is one linear map of a layer, or the output head; its adapters are rows of
// virtual ranks: rank j reads x through A[j] and writes y through B[j]. q, k and v share a site because they share
// x, so one adapter's ranks there are those of its q, k and v modules, each writing its own part of the output.

import type { AdapterTargets, Projection } from "./adapter.ts";

export const siteNames = ["qkv", "o", "gate", "up", "down", "head"] as const;
export type SiteName = (typeof siteNames)[number];

export type AdapterSite = {
  readonly name: SiteName;
  readonly layers: number; // 1 for the head
  readonly in: number;
  readonly out: number;
  /** First output column of each projection. */
  readonly parts: readonly { readonly projection: Projection; readonly column: number }[];
};

/**
 * What a graph offers besides low-rank adapters on the layers. It costs every step some nodes, so a graph has it
 * only where an adapter needs it.
 */
export const graphFeatures = ["scale", "sparse", "head"] as const;
export type GraphFeature = (typeof graphFeatures)[number];
export type GraphFeatures = ReadonlySet<GraphFeature>;

const siteProjections = {
  qkv: ["q", "k", "v"],
  o: ["o"],
  gate: ["gate"],
  up: ["up"],
  down: ["down"],
} as const satisfies Record<Exclude<SiteName, "head">, readonly Projection[]>;

export function adapterSites(targets: AdapterTargets): AdapterSite[] {
  return siteNames.map((name) => {
    if (name === "head") {
      return { name, layers: 1, in: targets.hiddenSize, out: targets.vocabSize, parts: [] };
    }
    let out = 0;
    const parts = siteProjections[name].map((projection) => {
      const column = out;
      out += targets.shapes[projection].out;
      return { projection, column };
    });
    return {
      name,
      layers: targets.layers,
      in: targets.shapes[siteProjections[name][0]].in,
      out,
      parts,
    };
  });
}

/** The sites that a graph with these features has. */
export function servedSites<Site extends { readonly name: SiteName }>(
  sites: readonly Site[],
  features: GraphFeatures,
): Site[] {
  return sites.filter(({ name }) => name !== "head" || features.has("head"));
}
