// A random low-rank adapter of given rank on all projections, for what needs its size and not its knowledge: benches,
// self checks, tests.

import { type AdapterTargets, type DecodedAdapter, type LowRankModule, projections } from "./adapter.ts";
import { randomAt } from "./sampling/random.ts";

export function randomAdapter(targets: AdapterTargets, rank: number, seed: number): DecodedAdapter {
  const modules: LowRankModule[] = [];
  let draws = 0;
  const values = (count: number, size: number) =>
    Float32Array.from({ length: count }, () => (randomAt(seed, draws++) - 0.5) * size);
  for (let layer = 0; layer < targets.layers; layer++) {
    for (const projection of projections) {
      const shape = targets.shapes[projection];
      const a = values(rank * shape.in, 0.02);
      const b = values(rank * shape.out, 0.02);
      modules.push({ kind: "low-rank", layer, projection, rank, a, b });
    }
  }
  return { modules };
}
