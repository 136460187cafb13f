// LoHa (FedPara, arXiv 2108.06098): W += s (w1_a w1_b) * (w2_a w2_b), entry by entry. The entrywise product of two
// matrices of rank r is one of rank r²: its factors are the row-wise Khatri-Rao products of theirs.

import { widthsOf } from "../module-places.ts";
import { Expansion, factoredTrainingFields } from "./expansion.ts";
import { rankFields, rankRules, targetFields } from "./target-modules.ts";
import { groupProjections, type PeftMethod } from "./tensors.ts";

export const loha: PeftMethod = {
  fields: [...targetFields, ...rankFields, ...factoredTrainingFields, "alpha"],

  decode(adapter, modules) {
    const { rankOf, alphaOf } = rankRules(adapter.fields, "alpha");
    const expansion = new Expansion();
    for (const module of groupProjections(adapter, ["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"])) {
      const { path, place } = module;
      const width = widthsOf(place, adapter.targets);
      const r = rankOf(path);
      expansion.add(path, r * r, width);
      const left = (name: string) => module.read(name, [width.out, r], "[out, rank]");
      const right = (name: string) => module.read(name, [r, width.in], "[rank, in]");
      const a = productsOfRows([right("hada_w1_b"), right("hada_w2_b")], r, width.in);
      const b = productsInRows([left("hada_w1_a"), left("hada_w2_a")], r, width.out);
      modules.addLowRank(place, { path, rank: r * r, a, b, scale: alphaOf(path) / r });
    }
  },
};

type Pair = readonly [Float32Array, Float32Array];

/** [r, in] twice to [r², in]: row p r + q is row p of one times row q of the other. */
function productsOfRows([one, other]: Pair, r: number, inWidth: number): Float32Array<ArrayBuffer> {
  const result = new Float32Array(r * r * inWidth);
  for (let index = 0; index < result.length; index++) {
    const row = Math.floor(index / inWidth);
    const column = index % inWidth;
    result[index] = one[Math.floor(row / r) * inWidth + column]! * other[(row % r) * inWidth + column]!;
  }
  return result;
}

/** [out, r] twice to [out, r²]: within a row, every entry of one times every entry of the other. */
function productsInRows([one, other]: Pair, r: number, out: number): Float32Array<ArrayBuffer> {
  const result = new Float32Array(out * r * r);
  for (let index = 0; index < result.length; index++) {
    const row = Math.floor(index / (r * r));
    const column = index % (r * r);
    result[index] = one[row * r + Math.floor(column / r)]! * other[row * r + (column % r)]!;
  }
  return result;
}
