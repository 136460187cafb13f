// LoKr (LyCORIS, arXiv 2309.14859): W += s kron(w1, w2), each factor stored whole or as a product. Since
// kron(u1 v1, u2 v2) = kron(u1, u2) kron(v1, v2), the ranks of the factors multiply.

import { AdapterError } from "../../../kernels/errors.ts";
import { type ProjectionPlace, widthsOf } from "../module-places.ts";
import { Expansion, factoredTrainingFields } from "./expansion.ts";
import { rankFields, rankRules, targetFields } from "./target-modules.ts";
import { groupProjections, type PeftMethod, type StoredModule, weightsName } from "./tensors.ts";

const parameters = ["lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b"];

export const lokr: PeftMethod = {
  fields: [
    ...targetFields,
    ...rankFields,
    ...factoredTrainingFields,
    "alpha",
    "decompose_both", // the tensors tell
    "decompose_factor",
  ],

  decode(adapter, modules) {
    const { rankOf, alphaOf } = rankRules(adapter.fields, "alpha");
    const expansion = new Expansion();
    for (const module of groupProjections(adapter, parameters)) {
      const { path, place } = module;
      const r = rankOf(path);
      const [one, other] = [readFactor(module, "lokr_w1", r), readFactor(module, "lokr_w2", r)];
      const width = widthsOf(place, adapter.targets);
      if (one.out * other.out !== width.out || one.in * other.in !== width.in) {
        throw new AdapterError(
          "adapter_wrong_shape",
          `${weightsName}: ${path} is the product of [${one.out},${one.in}] and [${other.out},${other.in}], but the base has [${width.out},${width.in}]; train the adapter on this base`,
        );
      }
      const rank = one.rank * other.rank;
      expansion.add(path, rank, width);
      const a = kron(
        { values: one.right, rows: one.rank, columns: one.in },
        { values: other.right, rows: other.rank, columns: other.in },
      );
      const b = kron(
        { values: one.left, rows: one.out, columns: one.rank },
        { values: other.left, rows: other.out, columns: other.rank },
      );
      modules.addLowRank(place, { path, rank, a, b, scale: alphaOf(path) / r });
    }
  },
};

/** left [out, rank] times right [rank, in]. */
type Factor = {
  readonly out: number;
  readonly in: number;
  readonly rank: number;
  readonly left: Float32Array;
  readonly right: Float32Array;
};

/** A factor that is stored whole has the smaller of its sides as its rank: itself times the identity. */
function readFactor(module: StoredModule<ProjectionPlace>, name: string, r: number): Factor {
  if (!module.has(name)) {
    const [out] = module.matrixShape(`${name}_a`);
    const [, inWidth] = module.matrixShape(`${name}_b`);
    const left = module.read(`${name}_a`, [out, r], "[rows, rank]");
    return {
      out,
      in: inWidth,
      rank: r,
      left,
      right: module.read(`${name}_b`, [r, inWidth], "[rank, columns]"),
    };
  }
  const [out, inWidth] = module.matrixShape(name);
  const whole = module.read(name, [out, inWidth], "[rows, columns]");
  return out < inWidth
    ? { out, in: inWidth, rank: out, left: identity(out), right: whole }
    : { out, in: inWidth, rank: inWidth, left: whole, right: identity(inWidth) };
}

function identity(size: number): Float32Array {
  const values = new Float32Array(size * size);
  for (let i = 0; i < size; i++) values[i * size + i] = 1;
  return values;
}

type Matrix = { readonly values: Float32Array; readonly rows: number; readonly columns: number };

/** Every entry of `one` times the whole of `other`. */
function kron(one: Matrix, other: Matrix): Float32Array<ArrayBuffer> {
  const columns = one.columns * other.columns;
  const result = new Float32Array(one.rows * other.rows * columns);
  for (let index = 0; index < result.length; index++) {
    const row = Math.floor(index / columns);
    const column = index % columns;
    const outer = Math.floor(row / other.rows) * one.columns + Math.floor(column / other.columns);
    const inner = (row % other.rows) * other.columns + (column % other.columns);
    result[index] = one.values[outer]! * other.values[inner]!;
  }
  return result;
}
