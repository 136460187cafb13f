// What the modules of each kind are made of: where they belong, which length is their own, and the shapes of
// their tensors. A container's reader and writer ask nothing else about kinds.

import type {
  AdapterKind,
  AdapterModule,
  AdapterTargets,
  Projection,
  ProjectionShape,
} from "../../kernels/adapter.ts";
import type { Floats, Indices } from "../codecs/tensor-codec.ts";

/** Where a module belongs. A field that its kind does not have is null. */
export type ModulePlace = { readonly layer: number | null; readonly projection: Projection | null };

/** The lengths that shapes are made of: the module's own, its projection's, and the base's. */
export type Lengths = ProjectionShape & {
  readonly own: number; // 1 where the kind has none
  readonly targets: AdapterTargets;
};

export type TensorLayout = {
  readonly holds: "floats" | "indices";
  readonly shape: (lengths: Lengths) => readonly number[];
  readonly optional?: true;
};

export type KindLayout = {
  readonly place: "projection" | "layer" | "base"; // what it belongs to
  /** What the module's own length is called, and how long it can be. */
  readonly own: { readonly name: string; readonly limit: (lengths: Lengths) => number } | null;
  /** In file order. */
  readonly tensors: Readonly<Record<string, TensorLayout>>;
  /** The tensor that the manifest's scale multiplies. */
  readonly scaled: string | null;
  readonly build: (place: ModulePlace, own: number, tensors: DecodedTensors) => AdapterModule;
};

export type DecodedTensors = {
  readonly floats: (name: string) => Floats;
  readonly optionalFloats: (name: string) => Floats | null;
  readonly indices: (name: string) => Indices;
};

const floats = (shape: TensorLayout["shape"]): TensorLayout => ({ holds: "floats", shape });
const indices = (shape: TensorLayout["shape"]): TensorLayout => ({ holds: "indices", shape });
const unbounded = () => 2 ** 28; // what the tensors take in all is bounded elsewhere

export const kindLayouts: Readonly<Record<AdapterKind, KindLayout>> = {
  "low-rank": {
    place: "projection",
    own: { name: "rank", limit: unbounded },
    tensors: { a: floats(({ own, in: width }) => [own, width]), b: floats(({ own, out }) => [own, out]) },
    scaled: "b",
    build: (place, rank, { floats }) => ({
      kind: "low-rank",
      ...target(place),
      rank,
      a: floats("a"),
      b: floats("b"),
    }),
  },
  channels: {
    place: "projection",
    own: { name: "channels", limit: ({ in: width }) => width },
    tensors: { channels: indices(({ own }) => [own]), b: floats(({ own, out }) => [own, out]) },
    scaled: "b",
    build: (place, _, { floats, indices }) => ({
      kind: "channels",
      ...target(place),
      channels: indices("channels"),
      b: floats("b"),
    }),
  },
  sparse: {
    place: "projection",
    own: { name: "entries", limit: ({ in: width, out }) => width * out },
    tensors: { indices: indices(({ own }) => [own]), values: floats(({ own }) => [own]) },
    scaled: "values",
    build: (place, _, { floats, indices }) => ({
      kind: "sparse",
      ...target(place),
      indices: indices("indices"),
      values: floats("values"),
    }),
  },
  scale: {
    place: "projection",
    own: null,
    tensors: {
      scale: floats(({ out }) => [out]),
      shift: { ...floats(({ out }) => [out]), optional: true },
    },
    scaled: null,
    build: (place, _, { floats, optionalFloats }) => ({
      kind: "scale",
      ...target(place),
      scale: floats("scale"),
      shift: optionalFloats("shift"),
    }),
  },
  "soft-prompt": {
    place: "base",
    own: { name: "tokens", limit: unbounded },
    tensors: { hidden: floats(({ own, targets }) => [own, targets.hiddenSize]) },
    scaled: null,
    build: (_, tokens, { floats }) => ({ kind: "soft-prompt", tokens, hidden: floats("hidden") }),
  },
  prefix: {
    place: "layer",
    own: { name: "tokens", limit: unbounded },
    tensors: {
      keys: floats(({ own, targets }) => [targets.kvHeads, own, targets.headDim]),
      values: floats(({ own, targets }) => [targets.kvHeads, own, targets.headDim]),
    },
    scaled: null,
    build: ({ layer }, tokens, { floats }) => ({
      kind: "prefix",
      layer: layer!,
      tokens,
      keys: floats("keys"),
      values: floats("values"),
    }),
  },
  embedding: {
    place: "base",
    own: { name: "rank", limit: unbounded },
    tensors: {
      a: floats(({ own, targets }) => [targets.vocabSize, own]),
      b: floats(({ own, targets }) => [own, targets.hiddenSize]),
    },
    scaled: "b",
    build: (_, rank, { floats }) => ({ kind: "embedding", rank, a: floats("a"), b: floats("b") }),
  },
  head: {
    place: "base",
    own: { name: "rank", limit: unbounded },
    tensors: {
      a: floats(({ own, targets }) => [own, targets.hiddenSize]),
      b: floats(({ own, targets }) => [own, targets.vocabSize]),
    },
    scaled: "b",
    build: (_, rank, { floats }) => ({ kind: "head", rank, a: floats("a"), b: floats("b") }),
  },
};

function target({ layer, projection }: ModulePlace): {
  readonly layer: number;
  readonly projection: Projection;
} {
  return { layer: layer!, projection: projection! };
}
