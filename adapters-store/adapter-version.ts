// The identity of an adapter: a hash of what it does to which base. It is taken over the decoded modules, so
// tensor order, file metadata and the name under which it was uploaded do not matter, in whatever format.

import { createHash } from "node:crypto";
import { type DecodedAdapter, projections } from "../kernels/adapter.ts";

/** SHA-256 in hex. Increase the number in the first line when what is hashed changes. */
export function hashAdapter(adapter: DecodedAdapter, baseFingerprint: string): string {
  const modules = adapter.modules.toSorted(
    (a, b) => a.layer - b.layer || projections.indexOf(a.projection) - projections.indexOf(b.projection),
  );
  const hash = createHash("sha256").update(`cotenant adapter 1\nbase ${baseFingerprint}\n`);
  for (const { layer, projection, rank, a, b } of modules) {
    hash.update(`lora ${layer} ${projection} ${rank} ${a.length} ${b.length}\n`).update(a).update(b);
  }
  return hash.digest("hex");
}
