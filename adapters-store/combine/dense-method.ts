// Methods that look at each entry of a change: they make the adapters' changes dense, drop entries of each, combine
// them, and bring the result back to a rank. On the changes, not on their factors as some of PEFT's do: the sign or
// size of an entry of A or B says nothing of the weights.

import { AdapterError } from "../../kernels/errors.ts";
import { mix } from "../../kernels/sampling/random.ts";
import { denseSvd } from "./matrix/dense-svd.ts";
import { denseChange, type MatrixPlace } from "./matrix-place.ts";
import type { MergeMethod } from "./merge-method.ts";
import type { MergeParameter, MergeParameters } from "./merge-parameters.ts";
import { truncatedModules } from "./truncate-change.ts";

type Sparsify<Parameter extends MergeParameter> = (
  values: Float32Array, // changed in place
  parameters: MergeParameters<Parameter>,
  randomStream: number,
) => void;

/** A matrix's changes, all of one length. */
export type WeightedChange = { readonly weight: number; readonly values: Float32Array };

type DenseMethod<Parameter extends MergeParameter> = {
  readonly parameters: readonly Parameter[];
  readonly sparsify: Sparsify<Parameter>;
  readonly combine: (changes: readonly WeightedChange[]) => Float32Array;
};

export function denseMethod<Parameter extends MergeParameter>({
  parameters: own,
  sparsify,
  combine,
}: DenseMethod<Parameter>): MergeMethod<Parameter | "rank"> {
  return {
    parameters: ["rank", ...own],
    merge: ({ place, parts, randomStream }, parameters) => {
      checkSize(place, parts.length + 3); // the result, and two to measure its error
      const changes = parts.map(({ weight, modules }, index) => {
        const { values } = denseChange(modules, place);
        sparsify(values, parameters, mix(randomStream + index));
        return { weight, values };
      });
      const target = { rows: place.rows, columns: place.columns, values: combine(changes) };
      const { rank } = parameters;
      return { modules: truncatedModules(place, denseSvd(target, rank), rank), target };
    },
  };
}

const largestDenseBytes = 2 ** 31;

function checkSize({ kind, rows, columns }: MatrixPlace, matrices: number): void {
  if (4 * rows * columns * matrices <= largestDenseBytes) return;
  throw new AdapterError(
    "merge_too_large",
    `this method would hold ${matrices} dense matrices of ${rows} x ${columns} (${kind}) at once; merge with svd or linear, or fewer adapters`,
  );
}
