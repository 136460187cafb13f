// Where adapters enter the graph. A site is one linear map of a layer; its adapters are rows of virtual ranks:
// rank j reads x through A[j] and writes y through B[j]. q, k and v share a site because they share x, so one
// adapter's ranks there are those of its q, k and v modules, each writing its own part of the fused output.

import type { AdapterTargets, Projection } from "./adapter.ts";

export const siteNames = ["qkv", "o", "gate", "up", "down"] as const;
export type SiteName = (typeof siteNames)[number];

export type AdapterSite = {
  readonly name: SiteName;
  readonly in: number;
  readonly out: number;
  /** First output column of each projection. */
  readonly parts: readonly { readonly projection: Projection; readonly column: number }[];
};

const siteProjections = {
  qkv: ["q", "k", "v"],
  o: ["o"],
  gate: ["gate"],
  up: ["up"],
  down: ["down"],
} as const satisfies Record<SiteName, readonly Projection[]>;

export function adapterSites(targets: AdapterTargets): AdapterSite[] {
  return siteNames.map((name) => {
    let out = 0;
    const parts = siteProjections[name].map((projection) => {
      const column = out;
      out += targets.shapes[projection].out;
      return { projection, column };
    });
    return { name, in: targets.shapes[siteProjections[name][0]].in, out, parts };
  });
}
