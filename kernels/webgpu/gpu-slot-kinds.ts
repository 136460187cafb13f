// What adapters keep in slots on the device, kind by kind: how many slots an adapter takes, what lies in them, and which
// inputs of the graph read it. Who is in which slot is kernels/slot-places.ts' business.

import type { AdapterTargets, EmbeddingModule } from "../adapter.ts";
import { adapterInputs } from "../adapter-graph.ts";
import { type AdapterSite, adapterSites } from "../adapter-sites.ts";
import { rankBlock } from "../cpu/adapter-bank.ts";
import type { SiteAdapter } from "../site-adapter.ts";
import { type SparseSegments, segmentWidth } from "../sparse-segments.ts";
import { type DeviceFeature, scaleInputs, sparseInputs } from "./gpu-adapter-graph.ts";

/** What of an adapter has slots. */
export type SlotAdapter = {
  readonly sites: SiteAdapter;
  readonly embeddings: readonly EmbeddingModule[];
};

/** One input of the graph for each layer. */
export type SlotArray = {
  readonly input: (layer: number) => string;
  readonly type: "float32" | "int32";
  readonly width: number; // values of a slot; the least where they vary
  readonly varies?: boolean; // with the adapter, and from layer to layer
  /** Contents are ranks [rank, width of one], of which a slot has a block: one after another, or as its columns. */
  readonly ranks?: "first" | "last";
  readonly dims: (slots: number, width: number) => number[];
  /** Of indices that count through all slots: by how much they grow from one slot to the next, given all widths. */
  readonly stride?: (widths: readonly number[]) => number;
};

export type SlotContents = Float32Array | Int32Array<ArrayBuffer>;

export type SlotKind = {
  readonly layers: number;
  readonly feature: DeviceFeature | null; // of a graph that reads it; null = every one
  readonly arrays: readonly SlotArray[];
  /** Whether the first slot is the base's, for rows whose adapter has none of the kind. */
  readonly hasBase: boolean;
  slotsOf(adapter: SlotAdapter): number;
  /** @returns for each array [slots, width], or its ranks; of an adapter without slots, what the base's slot holds */
  contents(adapter: SlotAdapter, layer: number): SlotContents[];
};

export type SiteKinds = {
  readonly site: AdapterSite;
  readonly ranks: SlotKind;
  readonly changes: { readonly scale: SlotKind; readonly sparse: SlotKind } | null; // null for the head
};

export class SlotKinds {
  readonly sites: readonly SiteKinds[];
  readonly embedding: SlotKind;

  constructor(targets: AdapterTargets) {
    this.sites = adapterSites(targets).map((site) => ({
      site,
      ranks: ranksOf(site),
      changes: site.name === "head" ? null : { scale: scaleOf(site), sparse: sparseOf(site) },
    }));
    this.embedding = embeddingOf(targets);
  }

  get all(): SlotKind[] {
    const ofSites = this.sites.flatMap(({ ranks, changes }) =>
      changes === null ? [ranks] : [ranks, changes.scale, changes.sparse],
    );
    return [...ofSites, this.embedding];
  }
}

function ranksOf({ name, layers, in: width, out }: AdapterSite): SlotKind {
  return {
    layers,
    feature: name === "head" ? "head" : null,
    arrays: [
      {
        input: (layer) => adapterInputs.a(layer, name),
        type: "float32",
        width: width * rankBlock,
        ranks: "last",
        dims: (slots) => [slots, 1, width, rankBlock],
      },
      {
        input: (layer) => adapterInputs.b(layer, name),
        type: "float32",
        width: rankBlock * out,
        ranks: "first",
        dims: (slots) => [slots, 1, rankBlock, out],
      },
    ],
    hasBase: false,
    slotsOf: ({ sites }) => Math.ceil(sites.rank(name) / rankBlock),
    contents({ sites }, layer) {
      const { a, b } = sites.stack(layer, name);
      return [a, b];
    },
  };
}

function scaleOf({ name, layers, out }: AdapterSite): SlotKind {
  const array = (input: (layer: number, site: typeof name) => string): SlotArray => ({
    input: (layer) => input(layer, name),
    type: "float32",
    width: out,
    dims: (slots) => [slots, out],
  });
  const hasScale = (sites: SiteAdapter) =>
    Array.from({ length: layers }, (_, layer) => sites.scale(layer, name)).some((scale) => scale !== null);
  return {
    layers,
    feature: "scale",
    arrays: [array(scaleInputs.scale), array(scaleInputs.shift)],
    hasBase: true,
    slotsOf: ({ sites }) => (hasScale(sites) ? 1 : 0),
    contents({ sites }, layer) {
      const found = sites.scale(layer, name);
      return found === null
        ? [new Float32Array(out).fill(1), new Float32Array(out)]
        : [found.scale, found.shift];
    },
  };
}

function sparseOf({ name, layers, in: width, out }: AdapterSite): SlotKind {
  const segments = { width: segmentWidth, varies: true, dims: segmentDims };
  const found = ({ sites }: SlotAdapter) =>
    Array.from({ length: layers }, (_, layer) => sites.sparse(layer, name));
  return {
    layers,
    feature: "sparse",
    arrays: [
      {
        ...segments,
        input: (layer) => sparseInputs.columns(layer, name),
        type: "int32",
        stride: () => width,
      },
      { ...segments, input: (layer) => sparseInputs.values(layer, name), type: "float32" },
      {
        input: (layer) => sparseInputs.segments(layer, name),
        type: "int32",
        width: out,
        varies: true,
        dims: (slots, own) => [slots, own / out, out],
        stride: ([columns]) => columns! / segmentWidth,
      },
    ],
    hasBase: false,
    slotsOf: (adapter) => (found(adapter).some((layer) => layer !== null) ? 1 : 0),
    contents: (adapter, layer) => sparseContents(found(adapter)[layer]!, out),
  };
}

function segmentDims(slots: number, width: number): number[] {
  return [slots, width / segmentWidth, segmentWidth];
}

/** The first segment is zero: outputs with fewer segments than others sum it instead. */
function sparseContents(found: SparseSegments | null, out: number) {
  const outputs = found?.outputs ?? new Int32Array(0);
  const columns = new Int32Array((outputs.length + 1) * segmentWidth);
  const values = new Float32Array(columns.length);
  if (found !== null) {
    columns.set(found.columns, segmentWidth);
    values.set(found.values, segmentWidth);
  }
  const counts = new Int32Array(out);
  for (const output of outputs) counts[output]!++;
  const most = counts.reduce((largest, count) => Math.max(largest, count), 1);
  const segments = new Int32Array(most * out); // [most, out]
  counts.fill(0);
  for (const [index, output] of outputs.entries()) segments[counts[output]!++ * out + output] = index + 1;
  return [columns, values, segments];
}

function embeddingOf({ hiddenSize }: AdapterTargets): SlotKind {
  return {
    layers: 1,
    feature: "embedding",
    arrays: [
      {
        input: () => adapterInputs.b(0, "embedding"),
        type: "float32",
        width: rankBlock * hiddenSize,
        dims: (slots) => [slots, 1, rankBlock, hiddenSize],
      },
    ],
    hasBase: false,
    slotsOf: (adapter) => embeddingBlocks(adapter).length,
    contents(adapter) {
      const blocks = embeddingBlocks(adapter);
      const b = new Float32Array(blocks.length * rankBlock * hiddenSize);
      for (const [slot, { module, firstRank }] of blocks.entries()) {
        const rows = module.b.subarray(firstRank * hiddenSize, (firstRank + rankBlock) * hiddenSize);
        b.set(rows, slot * rankBlock * hiddenSize);
      }
      return [b];
    },
  };
}

/** Of one buffer: what every WebGPU device binds (maxStorageBufferBindingSize, 128 MiB). */
const boundFloats = 2 ** 25;

/** Tokens that one run may have: a sparse change reads its entries' inputs for each. */
export function mostTokensOf({ sites }: SlotAdapter, kinds: SlotKinds): number {
  const entries = kinds.sites.flatMap(({ site, changes }) =>
    changes === null
      ? []
      : Array.from({ length: site.layers }, (_, layer) => sites.sparse(layer, site.name)?.values.length ?? 0),
  );
  return Math.max(1, Math.floor(boundFloats / (Math.max(...entries) + segmentWidth)));
}

/** Ranks of an embedding that share a slot. */
export type EmbeddingBlock = { readonly module: EmbeddingModule; readonly firstRank: number };

export function embeddingBlocks({ embeddings }: SlotAdapter): EmbeddingBlock[] {
  return embeddings.flatMap((module) =>
    Array.from({ length: Math.ceil(module.rank / rankBlock) }, (_, block) => ({
      module,
      firstRank: block * rankBlock,
    })),
  );
}

/** What a slot's ranks read of a token, [rankBlock]; ranks that it lacks read zero. */
export function embeddingRanksOf({ module, firstRank }: EmbeddingBlock, tokenId: number): Float32Array {
  const { rank, a } = module;
  const ranks = new Float32Array(rankBlock);
  ranks.set(a.subarray(tokenId * rank + firstRank, tokenId * rank + Math.min(rank, firstRank + rankBlock)));
  return ranks;
}
