// How adapters enter the forward graph: the nodes behind each linear map, and the inputs that feed them.
//
// Dimensions: x [T, in] and y [T, out] of the linear map. U slots of r ranks, each read by up to M sequences of Q
// tokens. What is added goes to [B, R] rows of y: to R rows at once when every sequence is one token (B = 1), token
// by token when there is one sequence (B = T, R = 1). Each row sums S parts, all its own:
// nothing of a neighbour's adapter gets near it, not even with weight zero. Rows without an adapter are in none of
// these, and stay.

import { type AdapterSite, type GraphFeatures, type SiteName, servedSites } from "./adapter-sites.ts";
import type { GraphBuilder } from "./onnx/graph-builder.ts";
import { segmentWidth } from "./sparse-segments.ts";

/** Shapes that the sparse nodes of a site go through, in order. */
export const sparseShapes = {
  read: 3, // [G, Q, in]
  columns: 2, // [G in, Q]
  tokens: 2, // [1, Q]
  sums: 2, // [G' out, Q]
  written: 3, // [G', out, Q]
  added: 4, // [B, R, 1, out]
} as const;
export type SparseShape = keyof typeof sparseShapes;

/** What slots belong to: a site, or the embeddings where the device looks them up. */
export type SlotName = SiteName | "embedding";

export const adapterInputs = {
  tokens: (site: SlotName) => `adapter.${site}.tokens`, // [U, M, Q], which rows of x each slot reads
  parts: (site: SlotName) => `adapter.${site}.parts`, // [B, R, S, 3], the slot, place and token of each row's parts
  weights: (site: SlotName) => `adapter.${site}.weights`, // [B, R, 1, S]
  rows: (site: SlotName) => `adapter.${site}.rows`, // [B, R, 1, 1], rows of y that change; no two alike
  a: (layer: number, site: SiteName) => `bank.${layer}.${site}.a`, // [U, 1, r, in], or with the ranks last
  b: (layer: number, site: SlotName) => `bank.${layer}.${site}.b`, // [U, 1, r, out]
  scale: (layer: number, site: SiteName) => `scale.${layer}.${site}`, // [1, R or 1, 1, out or 1]
  shift: (layer: number, site: SiteName) => `shift.${layer}.${site}`,
  // Sparse changes: N segments of w entries. With G = T, Q = 1 or G = 1, Q = T, inputs are rows of [G in, Q] and
  // what is added are rows of [G' out, Q], where G' counts changed rows only.
  sparseColumns: (layer: number, site: SiteName) => `sparse.${layer}.${site}.columns`, // [N, w], rows of [G in, Q]
  sparseValues: (layer: number, site: SiteName) => `sparse.${layer}.${site}.values`, // [N, 1, w]
  sparseOutputs: (layer: number, site: SiteName) => `sparse.${layer}.${site}.outputs`, // [N, 1], of [G' out, Q]
  sparseShape: (site: SiteName, of: SparseShape) => `sparse.${site}.${of}`,
} as const;

export type GraphPlace = {
  readonly layer: number;
  readonly site: SiteName;
  readonly output?: string; // a name for the result
};

export class AdapterGraph {
  readonly #graph: GraphBuilder;
  readonly #features: GraphFeatures;
  readonly #ranksLast: boolean; // of A in its bank
  readonly #sites: ReadonlyMap<SiteName, AdapterSite>;
  readonly #isServed = new Map<SiteName, string>();

  constructor(
    graph: GraphBuilder,
    sites: readonly AdapterSite[],
    { features, ranksLast }: { readonly features: GraphFeatures; readonly ranksLast: boolean },
  ) {
    this.#graph = graph;
    this.#features = features;
    this.#ranksLast = ranksLast;
    this.#sites = new Map(servedSites(sites, features).map((site) => [site.name, site]));
  }

  declareInputs(): void {
    const graph = this.#graph;
    for (const { name, layers, in: inWidth, out } of this.#sites.values()) {
      graph.input(adapterInputs.tokens(name), "int64", [`U_${name}`, `M_${name}`, `Q_${name}`]);
      this.declareParts(name);
      for (let layer = 0; layer < layers; layer++) {
        const ranks = `r_${layer}_${name}`; // an adapter may differ from layer to layer
        const a = this.#ranksLast ? [inWidth, ranks] : [ranks, inWidth];
        graph.input(adapterInputs.a(layer, name), "float32", [`U_${name}`, 1, ...a]);
        graph.input(adapterInputs.b(layer, name), "float32", [`U_${name}`, 1, ranks, out]);
        if (this.#features.has("scale")) {
          const shape = [1, `SR_${layer}_${name}`, 1, `So_${layer}_${name}`];
          graph.input(adapterInputs.scale(layer, name), "float32", shape);
          graph.input(adapterInputs.shift(layer, name), "float32", shape);
        }
        if (this.#hasSparse(name)) {
          const segments = `N_${layer}_${name}`;
          graph.input(adapterInputs.sparseColumns(layer, name), "int32", [segments, segmentWidth]);
          graph.input(adapterInputs.sparseValues(layer, name), "float32", [segments, 1, segmentWidth]);
          graph.input(adapterInputs.sparseOutputs(layer, name), "int32", [segments, 1]);
        }
      }
      if (!this.#hasSparse(name)) continue;
      for (const [shape, rank] of Object.entries(sparseShapes)) {
        graph.input(adapterInputs.sparseShape(name, shape as SparseShape), "int64", [rank]);
      }
    }
  }

  protected declareParts(name: SlotName): void {
    const [groups, rows, parts] = [`B_${name}`, `R_${name}`, `S_${name}`];
    this.#graph.input(adapterInputs.parts(name), "int64", [groups, rows, parts, 3]);
    this.#graph.input(adapterInputs.weights(name), "float32", [groups, rows, 1, parts]);
    this.#graph.input(adapterInputs.rows(name), "int64", [groups, rows, 1, 1]);
  }

  /** @returns the hidden states that the first layer reads; where they come as an input, adapters are in them */
  embed(hidden: string): string {
    return hidden;
  }

  serves(site: SiteName): boolean {
    return this.#sites.has(site);
  }

  /** @returns y with the adapters of one site's rows applied */
  apply(x: string, y: string, at: GraphPlace): string {
    const graph = this.#graph;
    const rows = adapterInputs.rows(at.site);
    const outputs = at.output === undefined ? 1 : [at.output];
    const added = this.#added(x, at);
    if (!this.#features.has("scale")) {
      return graph.node("ScatterND", [y, rows, added], { outputs, attributes: { reduction: "add" } })[0]!;
    }
    const [before] = graph.node("GatherND", [y, rows]);
    const [sum] = graph.node("Add", [before!, added]);
    const [scaled] = graph.node("Mul", [sum!, adapterInputs.scale(at.layer, at.site)]);
    const [shifted] = graph.node("Add", [scaled!, adapterInputs.shift(at.layer, at.site)]);
    return graph.node("ScatterND", [y, rows, shifted!], { outputs })[0]!;
  }

  /** What goes on the changed rows: [B, R, 1, out]. */
  #added(x: string, at: GraphPlace): string {
    const lowRank = this.#ofServedRows(this.#lowRank(x, at), at.site);
    if (!this.#hasSparse(at.site)) return lowRank;
    return this.#graph.node("Add", [lowRank, this.#sparse(x, at)])[0]!;
  }

  /**
   * Rows that change by other kinds alone have no slot: their weights are zero, and of what a neighbour's slot made,
   * zero times may be no zero.
   */
  #ofServedRows(lowRank: string, site: SiteName): string {
    if (!this.#features.has("scale") && !this.#hasSparse(site)) return lowRank;
    const graph = this.#graph;
    let isServed = this.#isServed.get(site);
    if (isServed === undefined) {
      const [weight] = graph.node("ReduceSum", [adapterInputs.weights(site), graph.integers([3])]);
      [isServed] = graph.node("Greater", [weight!, graph.float(0)]) as [string]; // [B, R, 1, 1]
      this.#isServed.set(site, isServed);
    }
    return graph.node("Where", [isServed, lowRank, graph.float(0)])[0]!;
  }

  /** sum over a row's slots of weight (x Aᵀ) B */
  #lowRank(x: string, { layer, site }: GraphPlace): string {
    const graph = this.#graph;
    const [read] = graph.node("Gather", [x, adapterInputs.tokens(site)], { attributes: { axis: 0 } });
    const factors = [read!, adapterInputs.a(layer, site)];
    const [ranks] = this.#ranksLast
      ? graph.node("MatMul", factors)
      : graph.contrib("FusedMatMul", factors, { attributes: { transB: 1 } }); // a batch of U M products, so one row's bits do not depend on who shares the slot
    return this.written(ranks!, layer, site);
  }

  /**
   * @param ranks what each slot read, [U, M, Q, r]
   * @returns what goes on each changed row: [B, R, 1, out]
   */
  protected written(ranks: string, layer: number, name: SlotName): string {
    const graph = this.#graph;
    const [delta] = graph.node("MatMul", [ranks, adapterInputs.b(layer, name)]); // [U, M, Q, out]
    const [parts] = graph.node("GatherND", [delta!, adapterInputs.parts(name)]); // [B, R, S, out]
    return graph.node("MatMul", [adapterInputs.weights(name), parts!])[0]!;
  }

  /** No kind changes the head sparsely. */
  #hasSparse(site: SiteName): boolean {
    return this.#features.has("sparse") && site !== "head";
  }

  /** A batch of short dot products, summed by output one after another: threads would lose additions. */
  #sparse(x: string, { layer, site }: GraphPlace): string {
    const graph = this.#graph;
    const shape = (of: SparseShape) => adapterInputs.sparseShape(site, of);
    const swap = (y: string) => graph.node("Transpose", [y], { attributes: { perm: [0, 2, 1] } })[0]!;
    const reshape = (y: string, of: SparseShape) => graph.node("Reshape", [y, shape(of)])[0]!;
    const inputs = reshape(swap(reshape(x, "read")), "columns"); // [G in, Q]
    const [read] = graph.node("Gather", [inputs, adapterInputs.sparseColumns(layer, site)], {
      attributes: { axis: 0 },
    }); // [N, w, Q]
    const [products] = graph.node("MatMul", [adapterInputs.sparseValues(layer, site), read!]);
    const [parts] = graph.node("Squeeze", [products!, graph.integers([1])]); // [N, Q]
    const [places] = graph.node("Expand", [adapterInputs.sparseOutputs(layer, site), shape("tokens")]);
    const [zeros] = graph.node("ConstantOfShape", [shape("sums")]);
    const [sums] = graph.node("ScatterElements", [zeros!, places!, parts!], {
      attributes: { axis: 0, reduction: "add" },
    });
    return reshape(swap(reshape(sums!, "written")), "added");
  }
}
