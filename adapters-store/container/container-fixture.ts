// For tests: adapters of every kind with seeded values, and the base that they fit.

import {
  type AdapterModule,
  type AdapterTargets,
  type DecodedAdapter,
  type Projection,
  projections,
} from "../../kernels/adapter.ts";
import { randomAt } from "../../kernels/sampling/random.ts";
import { fixtureTargets } from "../peft-fixture.ts";

type Floats = Float32Array<ArrayBuffer>;

export const fixtureBase = { targets: fixtureTargets, fingerprint: "base-fingerprint" };

/** HuggingFaceTB/SmolLM2-135M */
export const smolTargets: AdapterTargets = {
  layers: 30,
  shapes: {
    q: { in: 576, out: 576 },
    k: { in: 576, out: 192 },
    v: { in: 576, out: 192 },
    o: { in: 576, out: 576 },
    gate: { in: 576, out: 1536 },
    up: { in: 576, out: 1536 },
    down: { in: 1536, out: 576 },
  },
  hiddenSize: 576,
  vocabSize: 49_152,
  kvHeads: 3,
  headDim: 64,
};

/** Normal values (Box and Muller), as those of trained adapters roughly are. */
export function normalValues(seed: number, length: number, deviation = 1): Floats {
  const values = new Float32Array(length);
  for (let i = 0; i < length; i++) {
    const radius = Math.sqrt(-2 * Math.log(1 - randomAt(seed, 2 * i)));
    values[i] = deviation * radius * Math.cos(2 * Math.PI * randomAt(seed, 2 * i + 1));
  }
  return values;
}

/** All projections of all layers, or some of them. */
export function lowRank(
  targets: AdapterTargets,
  rank: number,
  only: { readonly layers?: number; readonly projections?: readonly Projection[] } = {},
): DecodedAdapter {
  const { layers = targets.layers, projections: chosen = projections } = only;
  const modules = Array.from({ length: layers }, (_, layer) =>
    chosen.map((projection, i): AdapterModule => {
      const { in: width, out } = targets.shapes[projection];
      const seed = layer * 100 + i * 2;
      const a = normalValues(seed, rank * width, 1 / Math.sqrt(width));
      return { kind: "low-rank", layer, projection, rank, a, b: normalValues(seed + 1, rank * out, 0.01) };
    }),
  );
  return { modules: modules.flat() };
}

/** At least one module of every kind, on the base of the PEFT fixtures. */
export function everyKind(): DecodedAdapter {
  const { hiddenSize, vocabSize, kvHeads, headDim, layers, shapes } = fixtureTargets;
  const target = { layer: 2, projection: "gate" } as const;
  const { in: width, out } = shapes.gate;
  return {
    modules: [
      ...lowRank(fixtureTargets, 3, { layers: 2, projections: ["q", "down"] }).modules,
      { kind: "channels", ...target, channels: Uint32Array.of(0, 3, width - 1), b: normalValues(1, 3 * out) },
      {
        kind: "sparse",
        ...target,
        indices: Uint32Array.of(5, 6, 40, width * out - 1),
        values: normalValues(2, 4),
      },
      { kind: "scale", ...target, scale: normalValues(3, out), shift: normalValues(4, out) },
      { kind: "scale", layer: 0, projection: "k", scale: normalValues(5, shapes.k.out), shift: null },
      { kind: "soft-prompt", tokens: 4, hidden: normalValues(6, 4 * hiddenSize) },
      ...Array.from({ length: layers }, (_, layer): AdapterModule => {
        const size = kvHeads * 5 * headDim;
        const keys = normalValues(7 + layer, size);
        return { kind: "prefix", layer, tokens: 5, keys, values: normalValues(20 + layer, size) };
      }),
      { kind: "embedding", rank: 2, a: normalValues(30, 2 * vocabSize), b: normalValues(31, 2 * hiddenSize) },
      { kind: "head", rank: 2, a: normalValues(32, 2 * hiddenSize), b: normalValues(33, 2 * vocabSize) },
    ],
  };
}
