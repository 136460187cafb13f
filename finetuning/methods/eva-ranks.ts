// Ranks by explained variance (EVA, arXiv 2410.07170, section 3.3): the components of all modules compete for the sum of
// the ranks that were asked for.

import type { ModuleShape } from "../../kernels/training/low-rank-parameters.ts";

/**
 * Scales stay, so that a module's gradients have the size they had. A module of which no component is chosen is left
 * out.
 * @param explained each component's share of the variance of what the module reads, falling; as many as it may get
 */
export function redistributed(
  shapes: readonly ModuleShape[],
  explained: (shape: ModuleShape) => ArrayLike<number>,
): ModuleShape[] {
  const budget = shapes.reduce((sum, { rank }) => sum + rank, 0);
  const candidates = shapes.flatMap((shape, module) =>
    Array.from(explained(shape), (share) => ({ module, share })),
  );
  const ranks = new Uint32Array(shapes.length);
  for (const { module } of candidates.sort((one, other) => other.share - one.share).slice(0, budget)) {
    ranks[module]!++;
  }
  return shapes.map((shape, module) => ({ ...shape, rank: ranks[module]! })).filter(({ rank }) => rank > 0);
}
