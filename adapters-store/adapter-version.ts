// The identity of an adapter: a hash of what it does to which base. It is taken over the decoded modules, so
// tensor order, file metadata and the name under which it was uploaded do not matter, in whatever format.

import { createHash } from "node:crypto";
import { type AdapterModule, type DecodedAdapter, moduleArrays } from "../kernels/adapter.ts";

/** SHA-256 in hex. Increase the number in the first line when what is hashed changes. */
export function hashAdapter(adapter: DecodedAdapter, baseFingerprint: string): string {
  const hash = createHash("sha256").update(`cotenant adapter 2\nbase ${baseFingerprint}\n`);
  const modules = adapter.modules.map((module) => ({ module, header: headerOf(module) }));
  for (const { module, header } of modules.toSorted((a, b) => (a.header < b.header ? -1 : 1))) {
    hash.update(`${header}\n`);
    for (const [, array] of moduleArrays(module)) hash.update(array);
  }
  return hash.digest("hex");
}

/** Kind and place, which no two modules share, and the lengths of what follows. */
function headerOf(module: AdapterModule): string {
  const layer = "layer" in module ? `layer ${module.layer}` : "";
  const projection = "projection" in module ? module.projection : "";
  const lengths = moduleArrays(module).map(([name, { length }]) => `${name} ${length}`);
  return [module.kind, layer, projection, ...lengths].join(" ");
}
