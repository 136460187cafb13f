// Collects an adapter's decoded modules: takes what a stored module holds, in the layout of linear layers
// ([out, in]), to the kernels' layouts, part by part of a fused one. Refuses two of one kind in one place.

import type { AdapterModule, AdapterTargets, DecodedAdapter } from "../../kernels/adapter.ts";
import { findNonFinite } from "../../kernels/checkpoint/finite.ts";
import { AdapterError } from "../../kernels/errors.ts";
import { openBase } from "./base.ts";
import type { ModulePlace, ProjectionPlace } from "./module-places.ts";

type Floats = Float32Array<ArrayBuffer>;

/** W += scale b a. */
export type StoredLowRank = {
  readonly path: string; // for messages
  readonly rank: number;
  readonly a: Floats; // [rank, in]
  readonly b: Floats; // [out, rank]
  readonly scale: number;
};

export class ModuleSet {
  readonly #targets: AdapterTargets;
  readonly #modules = new Map<string, AdapterModule>();

  constructor(targets: AdapterTargets) {
    this.#targets = targets;
  }

  get adapter(): DecodedAdapter {
    return { modules: [...this.#modules.values()] };
  }

  /** Fused projections share one `a`. */
  addLowRank(place: ModulePlace, { path, rank, a, b, scale }: StoredLowRank): void {
    if (place.kind === "projections") {
      for (const { projection, firstRow, rows } of this.#parts(place)) {
        const part = b.subarray(firstRow * rank, (firstRow + rows) * rank);
        const { layer } = place;
        this.add(path, { kind: "low-rank", layer, projection, rank, a, b: transposed(part, rank, scale) });
      }
      return;
    }
    if (place.kind === "head") {
      this.add(path, { kind: "head", rank, a, b: transposed(b, rank, scale) });
      return;
    }
    // PEFT applies the family's embedding scale to the change as well.
    using base = openBase(this.#targets, `${path} changes the token embeddings`);
    const scaled = transposed(b, rank, scale * base.config.embeddingScale);
    this.add(path, { kind: "embedding", rank, a: transposed(a, this.#targets.vocabSize, 1), b: scaled });
  }

  /** y = y scale + shift, both [out]. */
  addScale(
    place: ProjectionPlace,
    { path, scale, shift }: { readonly path: string; readonly scale: Floats; readonly shift: Floats | null },
  ): void {
    for (const { projection, firstRow, rows } of this.#parts(place)) {
      const part = (values: Floats) => values.slice(firstRow, firstRow + rows);
      const shifts = shift === null ? null : part(shift);
      const { layer } = place;
      this.add(path, { kind: "scale", layer, projection, scale: part(scale), shift: shifts });
    }
  }

  /** `path` names the stored module in refusals: `adapter_module_duplicate`, `non_finite_weights`. */
  add(path: string, module: AdapterModule): void {
    const layer = "layer" in module ? `layer ${module.layer}` : "";
    const key = [layer, "projection" in module ? module.projection : module.kind].filter(Boolean).join(", ");
    if (this.#modules.has(`${module.kind} ${key}`)) {
      throw new AdapterError(
        "adapter_module_duplicate",
        `two modules change ${key}, the second is ${path}; save one adapter alone`,
      );
    }
    for (const array of Object.values(module)) {
      if (!(array instanceof Float32Array) || findNonFinite(array) < 0) continue;
      throw new AdapterError(
        "non_finite_weights",
        `${path}: the product of its weights and its scale overflows; lower alpha, or train it again with a lower learning rate`,
      );
    }
    this.#modules.set(`${module.kind} ${key}`, module);
  }

  /** Rows of the stored module that each projection computes. */
  #parts({ projections }: ProjectionPlace) {
    let end = 0;
    return projections.map((projection) => {
      const rows = this.#targets.shapes[projection].out;
      end += rows;
      return { projection, firstRow: end - rows, rows };
    });
  }
}

/** [rows, columns] to [columns, rows], times `scale`. */
export function transposed(values: Float32Array, columns: number, scale: number): Floats {
  const rows = values.length / columns;
  const result = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      result[column * rows + row] = values[row * columns + column]! * scale;
    }
  }
  return result;
}
