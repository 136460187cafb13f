// What the adapter side of the graph does otherwise on WebGPU: every kind reads slots that are on the device, and only
// indices, and an embedding's few coefficients for the tokens at hand, come with a step. The provider sums no scattered
// parts in a fixed order: a sparse change's segments are gathered by output instead.
//
// Dimensions as in adapter-graph.ts. A sparse slot has N segments of w entries, the first of them zero, and at most K
// for an output; V of them are in use, each read by up to M tokens.

import { AdapterGraph, adapterInputs, type GraphPlace } from "../adapter-graph.ts";
import type { AdapterSite, GraphFeature, GraphFeatures, SiteName } from "../adapter-sites.ts";
import type { GraphBuilder } from "../onnx/graph-builder.ts";
import { segmentWidth } from "../sparse-segments.ts";

/** Embeddings are looked up on the device, so that changing them is the graph's business here. */
export type DeviceFeature = GraphFeature | "embedding";
export type DeviceFeatures = ReadonlySet<DeviceFeature>;

export const embeddingRanks = "adapter.embedding.ranks"; // [U, M, Q, r], of the tokens that each slot reads

export const scaleInputs = {
  slots: (site: SiteName) => `scale.${site}.slots`, // [T or 1], each row's; one without a scale reads ones and zeros
  scale: adapterInputs.scale, // [slots, out]
  shift: adapterInputs.shift,
} as const;

export const sparseInputs = {
  tokens: (site: SiteName) => `sparse.${site}.tokens`, // [M, V], which rows of x each slot reads
  parts: (site: SiteName) => `sparse.${site}.parts`, // [R], where each changed row's result is, in [M V]
  rows: (site: SiteName) => `sparse.${site}.rows`, // [R, 1], rows of y that change; no two alike
  columns: adapterInputs.sparseColumns, // [V, N, w], of all slots' inputs [V in]
  values: adapterInputs.sparseValues, // [V, N, w]
  segments: adapterInputs.sparseOutputs, // [V, K, out], each output's segments, of all [V N]
} as const;

export type GpuAdapterGraphOptions = { readonly features: DeviceFeatures; readonly hiddenSize: number };

export class GpuAdapterGraph extends AdapterGraph {
  readonly #graph: GraphBuilder;
  readonly #layerSites: readonly AdapterSite[];
  readonly #options: GpuAdapterGraphOptions;

  constructor(graph: GraphBuilder, sites: readonly AdapterSite[], options: GpuAdapterGraphOptions) {
    const features: GraphFeatures = new Set(options.features.has("head") ? ["head"] : []);
    super(graph, sites, { features, ranksLast: true });
    this.#graph = graph;
    this.#layerSites = sites.filter(({ name }) => name !== "head");
    this.#options = options;
  }

  override declareInputs(): void {
    super.declareInputs();
    const { features } = this.#options;
    if (features.has("embedding")) this.#declareEmbedding();
    for (const site of this.#layerSites) {
      if (features.has("scale")) this.#declareScale(site);
      if (features.has("sparse")) this.#declareSparse(site);
    }
  }

  override embed(hidden: string): string {
    if (!this.#options.features.has("embedding")) return hidden;
    const added = this.written(embeddingRanks, 0, "embedding");
    return this.#addTo(hidden, adapterInputs.rows("embedding"), added);
  }

  override apply(x: string, y: string, at: GraphPlace): string {
    const { features } = this.#options;
    const ranked = super.apply(x, y, at);
    if (at.site === "head") return ranked;
    const changed = features.has("sparse") ? this.#sparse(x, ranked, at) : ranked;
    return features.has("scale") ? this.#scaled(changed, at) : changed;
  }

  #declareEmbedding(): void {
    this.#graph.input(embeddingRanks, "float32", [
      "U_embedding",
      "M_embedding",
      "Q_embedding",
      "r_embedding",
    ]);
    this.declareParts("embedding");
    const shape = ["U_embedding", 1, "r_embedding", this.#options.hiddenSize];
    this.#graph.input(adapterInputs.b(0, "embedding"), "float32", shape);
  }

  #declareScale({ name, layers, out }: AdapterSite): void {
    this.#graph.input(scaleInputs.slots(name), "int32", [`scaled_${name}`]);
    for (let layer = 0; layer < layers; layer++) {
      for (const input of [scaleInputs.scale, scaleInputs.shift]) {
        this.#graph.input(input(layer, name), "float32", [`scales_${name}`, out]);
      }
    }
  }

  #declareSparse({ name, layers, out }: AdapterSite): void {
    const graph = this.#graph;
    const slots = `V_${name}`;
    graph.input(sparseInputs.tokens(name), "int32", [`M_sparse_${name}`, slots]);
    graph.input(sparseInputs.parts(name), "int32", [`R_sparse_${name}`]);
    graph.input(sparseInputs.rows(name), "int64", [`R_sparse_${name}`, 1]);
    for (let layer = 0; layer < layers; layer++) {
      const segments = [slots, `N_${layer}_${name}`, segmentWidth];
      graph.input(sparseInputs.columns(layer, name), "int32", segments);
      graph.input(sparseInputs.values(layer, name), "float32", segments);
      graph.input(sparseInputs.segments(layer, name), "int32", [slots, `K_${layer}_${name}`, out]);
    }
  }

  /** A row's own slot is gathered: what another's holds is nowhere near it. */
  #scaled(y: string, { layer, site }: GraphPlace): string {
    const ofRows = (table: string) => this.#gather(table, scaleInputs.slots(site), 0);
    const [scaled] = this.#graph.node("Mul", [y, ofRows(scaleInputs.scale(layer, site))]);
    return this.#graph.node("Add", [scaled!, ofRows(scaleInputs.shift(layer, site))])[0]!;
  }

  #sparse(x: string, y: string, { layer, site }: GraphPlace): string {
    const graph = this.#graph;
    const side = (of: string) => graph.node("Reshape", [of, graph.integers([0, -1])])[0]!; // [M, all slots']
    const sum = (of: string, axis: number) =>
      graph.node("ReduceSum", [of, graph.integers([axis])], { attributes: { keepdims: 0 } })[0]!;
    const inputs = side(this.#gather(x, sparseInputs.tokens(site), 0)); // [M, V in]
    const entries = this.#gather(inputs, sparseInputs.columns(layer, site), 1); // [M, V, N, w]
    const [products] = graph.node("Mul", [entries, sparseInputs.values(layer, site)]);
    const segments = side(sum(products!, 3)); // [M, V N]
    const outputs = sum(this.#gather(segments, sparseInputs.segments(layer, site), 1), 2); // [M, V, out]
    const width = this.#layerSites.find(({ name }) => name === site)!.out;
    const [results] = graph.node("Reshape", [outputs, graph.integers([-1, width])]);
    const added = this.#gather(results!, sparseInputs.parts(site), 0);
    return this.#addTo(y, sparseInputs.rows(site), added);
  }

  #gather(from: string, indices: string, axis: number): string {
    return this.#graph.node("Gather", [from, indices], { attributes: { axis } })[0]!;
  }

  #addTo(y: string, rows: string, added: string): string {
    return this.#graph.node("ScatterND", [y, rows, added], { attributes: { reduction: "add" } })[0]!;
  }
}
