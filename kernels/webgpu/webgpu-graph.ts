// What the forward graph does otherwise on WebGPU: embeddings are gathered on the device, keys and values are written
// where they stay, masks are made of positions, and only operators that the provider has are used.
//
// Dimensions as in forward-graph.ts; here C counts a row's places, the new tokens' included. Keys lie with the places
// last, so that scores are one plain product.

import {
  type BuilderOptions,
  ForwardBuilder,
  type ForwardGraphOptions,
  type NewHeads,
} from "../forward-graph.ts";
import type { PreparedMatrix } from "../prepare/layout.ts";
import { type DeviceFeatures, GpuAdapterGraph } from "./gpu-adapter-graph.ts";

export const deviceInputs = {
  tokenIds: "token_ids", // [T]
  embeddings: "embeddings", // [vocab, hidden], scaled; or the hidden states of a soft prompt
  places: "places", // [R, 1, S], where the new tokens go
  queryPlaces: "query_places", // [R, 1, G S, 1], the last place that a query sees
  keyPlaces: "key_places", // [1, 1, 1, C], 0, 1, ...
  keys: (layer: number) => `keys.${layer}`, // [R, K, D, C]
  values: (layer: number) => `values.${layer}`, // [R, K, C, D]
} as const;

/** To be written over the inputs of the same layer. */
export const deviceOutputs = {
  keys: (layer: number) => `keys.${layer}.new`,
  values: (layer: number) => `values.${layer}.new`,
} as const;

export type WebgpuGraphOptions = Omit<ForwardGraphOptions, "features" | "exactActivations"> & {
  readonly features: DeviceFeatures;
};

/** @returns the model as ONNX's protobuf; its weights lie in `dataFile` beside it */
export function buildWebgpuGraph({ layout, features, ...options }: WebgpuGraphOptions): Uint8Array {
  const { hiddenSize } = options.config;
  const adapters: BuilderOptions["adapters"] = (graph, sites) =>
    new GpuAdapterGraph(graph, sites, { features, hiddenSize });
  const builder = new WebgpuBuilder({ ...options, adapters, exactActivations: true });
  builder.build(layout);
  return builder.graph.finish();
}

class WebgpuBuilder extends ForwardBuilder {
  readonly #masks = new Map<number | null, string>(); // by window
  #keyIndex: string | null = null; // [R, K, D, S]
  #valueIndex: string | null = null; // [R, K, S, D]

  protected override declareState(): void {
    const { graph, config } = this;
    const { kvHeads, headDim, hiddenSize, layers } = config;
    graph.input(deviceInputs.tokenIds, "int32", ["T"]);
    graph.input(deviceInputs.embeddings, "float32", ["table", hiddenSize]);
    graph.input(deviceInputs.places, "int32", ["R", 1, "S"]);
    graph.input(deviceInputs.queryPlaces, "float32", ["R", 1, "queries", 1]);
    graph.input(deviceInputs.keyPlaces, "float32", [1, 1, 1, "C"]);
    for (let layer = 0; layer < layers; layer++) {
      graph.input(deviceInputs.keys(layer), "float32", ["R", kvHeads, headDim, "C"]);
      graph.input(deviceInputs.values(layer), "float32", ["R", kvHeads, "C", headDim]);
    }
  }

  protected override embedded(): string {
    const [hidden] = this.graph.node("Gather", [deviceInputs.embeddings, deviceInputs.tokenIds], {
      attributes: { axis: 0 },
    });
    return hidden!;
  }

  protected override attend({ queries, keys, values }: NewHeads, layer: number): string {
    const { graph } = this;
    const { kvHeads, headDim, layerWindow } = this.config;
    const write = (into: string, index: string, what: string, options: { axis: number; output: string }) =>
      graph.node("ScatterElements", [into, index, what], {
        outputs: [options.output],
        attributes: { axis: options.axis },
      })[0]!;
    const [columns] = graph.node("Transpose", [keys], { attributes: { perm: [0, 1, 3, 2] } });
    const allKeys = write(deviceInputs.keys(layer), this.#index("keys"), columns!, {
      axis: 3,
      output: deviceOutputs.keys(layer),
    });
    const allValues = write(deviceInputs.values(layer), this.#index("values"), values, {
      axis: 2,
      output: deviceOutputs.values(layer),
    });
    // A kv head's G query heads are G S rows of one matrix.
    const grouped = this.reshape(queries, [0, kvHeads, -1, headDim]);
    const [scores] = graph.node("MatMul", [grouped, allKeys]);
    const [masked] = graph.node("Add", [scores!, this.#mask(layerWindow[layer]!)]);
    const [attention] = graph.node("Softmax", [masked!], { attributes: { axis: -1 } });
    return graph.node("MatMul", [attention!, allValues])[0]!;
  }

  protected override returnKeyValues(): void {
    const { kvHeads, headDim, layers } = this.config;
    for (let layer = 0; layer < layers; layer++) {
      this.graph.output(deviceOutputs.keys(layer), "float32", ["R", kvHeads, headDim, "C"]);
      this.graph.output(deviceOutputs.values(layer), "float32", ["R", kvHeads, "C", headDim]);
    }
  }

  /**
   * An input: a weight that is part of the model would be widened once, when the session opens, and lie on the device as
   * float32. `halfFeeds` feeds it.
   */
  protected override halves({ name, rows, columns }: PreparedMatrix): string {
    return this.graph.input(name, "float16", [rows, columns]);
  }

  /** The provider has no product by a transposed matrix but this one. */
  protected override floatProduct(
    factors: readonly [x: string, weight: string],
    bias: string | null,
    outputs: number | readonly string[],
  ): string {
    const inputs = bias === null ? factors : [...factors, bias];
    return this.graph.node("Gemm", inputs, { outputs, attributes: { transB: 1 } })[0]!;
  }

  /** Where every value of the new keys or values goes, for all layers alike. */
  #index(of: "keys" | "values"): string {
    const { graph } = this;
    const { kvHeads, headDim } = this.config;
    const expand = (dims: readonly number[], shape: readonly number[]) =>
      graph.node("Expand", [this.reshape(deviceInputs.places, dims), graph.integers(shape)])[0]!;
    this.#keyIndex ??= expand([0, 1, 1, -1], [1, kvHeads, headDim, 1]);
    this.#valueIndex ??= expand([0, 1, -1, 1], [1, kvHeads, 1, headDim]);
    return of === "keys" ? this.#keyIndex : this.#valueIndex;
  }

  /** [R, 1, G S, C]: 0 where a query may look, minus infinity where it may not. */
  #mask(window: number | null): string {
    const known = this.#masks.get(window);
    if (known !== undefined) return known;
    const { graph } = this;
    const { keyPlaces, queryPlaces } = deviceInputs;
    const [isLater] = graph.node("Greater", [keyPlaces, queryPlaces]);
    const hidden = graph.float(Number.NEGATIVE_INFINITY);
    let [mask] = graph.node("Where", [isLater!, hidden, graph.float(0)]);
    if (window !== null) {
      const [first] = graph.node("Sub", [queryPlaces, graph.float(window - 1)]);
      const [isEarlier] = graph.node("Less", [keyPlaces, first!]);
      [mask] = graph.node("Where", [isEarlier!, hidden, mask!]);
    }
    this.#masks.set(window, mask!);
    return mask!;
  }
}
