// Random adapters of every kind and of several kinds at once, large enough to be seen in the output.

import {
  type AdapterKind,
  type AdapterModule,
  type AdapterTargets,
  type DecodedAdapter,
  type Projection,
  projections,
} from "../../kernels/adapter.ts";
import { randomAt } from "../../kernels/sampling/random.ts";

const ranks = [1, 4, 8, 16, 33];
const targetSets: readonly (readonly Projection[])[] = [
  ["q", "v"],
  projections,
  ["gate", "down"],
  ["k"],
  ["o", "up"],
  ["q", "k", "v", "o"],
];

/** What the adapters after the purely low-rank ones are made of. */
const mixtures: readonly (readonly AdapterKind[])[] = [
  ["channels"],
  ["scale"],
  ["sparse"],
  ["head"],
  ["embedding"],
  ["low-rank", "scale"],
  ["low-rank", "sparse"],
  ["low-rank", "channels", "sparse", "scale", "head", "embedding"],
  ["prefix"],
  ["soft-prompt"],
  ["low-rank", "prefix"],
];

const lowRankOnly = 10;
export const randomAdapterCount = lowRankOnly + mixtures.length;

/** Adapter `index` has its own ranks, targets and kinds and, every third, an absent layer. */
export function randomAdapter(targets: AdapterTargets, index: number): DecodedAdapter {
  let draws = 0;
  const random = () => randomAt(100 + index, draws++);
  const values = (length: number, size: number) =>
    Float32Array.from({ length }, () => (random() * 2 - 1) * size);
  const places = (count: number, below: number) => {
    const chosen = new Set<number>();
    while (chosen.size < count) chosen.add(Math.floor(random() * below));
    return Uint32Array.from(chosen).sort();
  };
  const kinds: readonly AdapterKind[] = index < lowRankOnly ? ["low-rank"] : mixtures[index - lowRankOnly]!;
  const { layers, shapes, hiddenSize, vocabSize, kvHeads, headDim } = targets;
  const rank = ranks[index % ranks.length]!;

  function moduleOf(kind: AdapterKind, layer: number, projection: Projection): AdapterModule {
    const { in: inWidth, out } = shapes[projection];
    const target = { layer, projection };
    switch (kind) {
      case "low-rank": {
        const place = targetSets[index % targetSets.length]!.indexOf(projection);
        const own = ranks[(index + place) % ranks.length]!;
        const size = Math.sqrt(3 / Math.sqrt(inWidth * own)); // the change is of the order of the input
        return {
          kind,
          ...target,
          rank: own,
          a: values(own * inWidth, size),
          b: values(own * out, size / 2),
        };
      }
      case "channels": {
        const count = Math.min(inWidth, 1 + (index % 3) * 5);
        return { kind, ...target, channels: places(count, inWidth), b: values(count * out, 0.5) };
      }
      case "scale": {
        const scale = values(out, 1).map((value) => 1 + value);
        return { kind, ...target, scale, shift: layer === 0 ? null : values(out, 0.2) };
      }
      case "sparse": {
        const count = Math.ceil(inWidth * out * (projection === "v" ? 0.3 : 0.02));
        return { kind, ...target, indices: places(count, inWidth * out), values: values(count, 0.5) };
      }
      case "head":
        return { kind, rank, a: values(rank * hiddenSize, 0.3), b: values(rank * vocabSize, 0.3) };
      case "embedding":
        return { kind, rank, a: values(vocabSize * rank, 0.3), b: values(rank * hiddenSize, 0.3) };
      case "soft-prompt":
        return { kind, tokens: 3, hidden: values(3 * hiddenSize, 1) };
      case "prefix": {
        const count = kvHeads * 5 * headDim;
        return { kind, layer, tokens: 5, keys: values(count, 1), values: values(count, 1) };
      }
      default:
        return kind satisfies never;
    }
  }

  const modules = kinds.flatMap((kind): AdapterModule[] => {
    if (kind === "head" || kind === "embedding" || kind === "soft-prompt") return [moduleOf(kind, 0, "q")];
    const from = kind !== "prefix" && index % 3 === 2 ? 1 : 0;
    const own = Array.from({ length: layers - from }, (_, i) => from + i);
    if (kind === "prefix") return own.map((layer) => moduleOf(kind, layer, "q"));
    return own.flatMap((layer) =>
      targetSets[index % targetSets.length]!.map((projection) => moduleOf(kind, layer, projection)),
    );
  });
  return { modules };
}
