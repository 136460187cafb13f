// What the kernels need to know of an adapter: decoded modules, each of one kind, in the layouts that the device
// reads. Where they come from (PEFT directories, containers, a training job) is adapters-store's business.

/** The projections of a transformer layer that an adapter may change, in graph order. */
export const projections = ["q", "k", "v", "o", "gate", "up", "down"] as const;
export type Projection = (typeof projections)[number];

/** Widths of one projection: y [out] = W x [in]. */
export type ProjectionShape = { readonly in: number; readonly out: number };

/** The part of a base model that adapters are checked against. */
export type AdapterTargets = {
  readonly layers: number;
  readonly shapes: Readonly<Record<Projection, ProjectionShape>>;
  readonly hiddenSize: number;
  readonly vocabSize: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Where the base's own weights lie, for adapters that are stored relative to them. */
  readonly checkpointDirectory?: string;
};

/** The projection that a module changes. At most one module of a kind per projection. */
type Target = { readonly layer: number; readonly projection: Projection };
type Floats = Float32Array<ArrayBuffer>;

/** y += (x aᵀ) b, with the adapter's scale already folded into `b`. */
export type LowRankModule = Target & {
  readonly kind: "low-rank";
  readonly rank: number;
  readonly a: Floats; // [rank, in]
  readonly b: Floats; // [rank, out]
};

/** Structured sparse (S2FT): y += x[channels] b. */
export type ChannelsModule = Target & {
  readonly kind: "channels";
  readonly channels: Uint32Array<ArrayBuffer>; // input channels, ascending, no two alike
  readonly b: Floats; // [channels, out]
};

/** Unstructured sparse: W[index] += value. */
export type SparseModule = Target & {
  readonly kind: "sparse";
  readonly indices: Uint32Array<ArrayBuffer>; // row-major places in W [out, in], ascending, no two alike
  readonly values: Floats;
};

/** Scale and shift, DoRA's magnitude: y = (W x + bias + what the other kinds add) scale + shift, by output. */
export type ScaleModule = Target & {
  readonly kind: "scale";
  readonly scale: Floats; // [out]
  readonly shift: Floats | null; // [out]
};

/** Virtual tokens in front of the sequence, given as hidden states (after the base's embedding scale). */
export type SoftPromptModule = {
  readonly kind: "soft-prompt";
  readonly tokens: number;
  readonly hidden: Floats; // [tokens, hidden]
};

/** Keys and values of virtual tokens in front of the sequence, keys as they are cached (rotated, if at all). */
export type PrefixModule = {
  readonly kind: "prefix";
  readonly layer: number; // one for each layer, all with the same number of tokens
  readonly tokens: number;
  readonly keys: Floats; // [kvHeads, tokens, headDim]
  readonly values: Floats;
};

/** Low-rank change of the token embeddings: hidden += a[token] b. */
export type EmbeddingModule = {
  readonly kind: "embedding";
  readonly rank: number;
  readonly a: Floats; // [vocab, rank]
  readonly b: Floats; // [rank, hidden], the adapter's scale folded in
};

/** Low-rank change of the output head: logits += (x aᵀ) b. */
export type HeadModule = {
  readonly kind: "head";
  readonly rank: number;
  readonly a: Floats; // [rank, hidden]
  readonly b: Floats; // [rank, vocab], the adapter's scale folded in
};

export type AdapterModule =
  | LowRankModule
  | ChannelsModule
  | SparseModule
  | ScaleModule
  | SoftPromptModule
  | PrefixModule
  | EmbeddingModule
  | HeadModule;
export type AdapterKind = AdapterModule["kind"];

export type DecodedAdapter = { readonly modules: readonly AdapterModule[] };

type ModuleArray = Floats | Uint32Array<ArrayBuffer>;

/** Every array of a module under its name, in one order whatever order it was made in. */
export function moduleArrays(module: AdapterModule): [name: string, array: ModuleArray][] {
  return Object.entries(module)
    .filter((entry): entry is [string, ModuleArray] => ArrayBuffer.isView(entry[1]))
    .sort(([one], [other]) => (one < other ? -1 : 1));
}

/** The memory behind an adapter, each piece once: modules of a fused projection share theirs. */
export function adapterBuffers({ modules }: DecodedAdapter): ArrayBuffer[] {
  return [...new Set(modules.flatMap((module) => moduleArrays(module).map(([, { buffer }]) => buffer)))];
}

export function adapterBytes(adapter: DecodedAdapter): number {
  return adapterBuffers(adapter).reduce((sum, { byteLength }) => sum + byteLength, 0);
}

/** Those of one kind. */
export function modulesOf<Kind extends AdapterKind>(
  { modules }: DecodedAdapter,
  kind: Kind,
): Extract<AdapterModule, { kind: Kind }>[] {
  return modules.filter((module): module is Extract<AdapterModule, { kind: Kind }> => module.kind === kind);
}
