// Trained low-rank modules over one flat array, so that an optimizer walks one array and a checkpoint writes one.

import { type AdapterTargets, type Projection, projections } from "../adapter.ts";

type Place = { readonly layer: number; readonly projection: Projection };

/** y += scale (x aᵀ) b. Unlike a decoded adapter's, `b` is without the scale: optimizers see PEFT's own values. */
export type TrainedModule = Place & {
  readonly rank: number;
  readonly scale: number;
  readonly a: Float32Array; // [rank, in]
  readonly b: Float32Array; // [rank, out]
};

export type ModuleShape = Place & { readonly rank: number; readonly scale: number };

/** A module on each projection of each layer, by layers. */
export function onEveryProjection(
  layers: number,
  size: { readonly rank: number; readonly scale: number },
): ModuleShape[] {
  return Array.from({ length: layers }, (_, layer) =>
    projections.map((projection) => ({ layer, projection, ...size })),
  ).flat();
}

export class LowRankParameters {
  readonly flat: Float32Array<ArrayBuffer>;
  readonly modules: readonly TrainedModule[]; // views of `flat`, one after another, a before b

  /** All zeros. */
  constructor(shapes: readonly ModuleShape[], targets: AdapterTargets) {
    const widths = shapes.map(({ projection }) => targets.shapes[projection]);
    const sizes = shapes.map(({ rank }, index) => rank * (widths[index]!.in + widths[index]!.out));
    this.flat = new Float32Array(sizes.reduce((sum, size) => sum + size, 0));
    let at = 0;
    this.modules = shapes.map((shape, index) => {
      const middle = at + shape.rank * widths[index]!.in;
      const end = at + sizes[index]!;
      const module = { ...shape, a: this.flat.subarray(at, middle), b: this.flat.subarray(middle, end) };
      at = end;
      return module;
    });
  }
}
