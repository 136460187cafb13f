// One transformer layer as an ONNX graph without weights: they enter as inputs, so one graph serves all layers of a
// model. Written twice: forward, and forward with backward, which recomputes from the layer's input what it needs, or
// reads what the forward graph kept of it.
//
// Dimensions: S new tokens, P earlier ones whose keys and values are there, K kv heads of width D.

import { type Projection, projections } from "../adapter.ts";
import type { ModelConfig } from "../model-config.ts";
import { adapterTargets } from "../model-family.ts";
import type { PreparedLayer } from "../prepare/layout.ts";
import type { DifferentiableGraph, Value } from "./differentiable-graph.ts";
import {
  type KeptName,
  type LayerWeight,
  layerInputs,
  layerOutputs,
  type MatrixName,
  readName,
  readTogether,
} from "./layer-names.ts";
import { attention, gated, type RotaryNames, rotate, type TileNames } from "./layer-operations.ts";

/** Which of the layer's optional parts the model has, and each weight's shape. */
export type LayerShape = {
  readonly config: ModelConfig;
  readonly layer: PreparedLayer;
  readonly keep: boolean; // whether the forward graph gives, and the backward graph takes, what can be kept
  readonly factors?: boolean; // whether the backward graph gives the factors of the matrices' gradients
  readonly newGraph: () => DifferentiableGraph;
};

/** Floats per token that a layer keeps under each name, without keys, values and what adapters read. */
export function keptWidths({ config, layer }: Pick<LayerShape, "config" | "layer">): Map<KeptName, number> {
  const { q, k, gate, up } = adapterTargets(config).shapes;
  const { hiddenSize } = config;
  const widths: [KeptName, number][] = [
    ["q", q.out],
    ["attended", hiddenSize],
    ["gate", gate.out],
    ["up", up.out],
  ];
  if (layer.keyNorm !== null) widths.push(["k", k.out]);
  if (layer.attentionOutputNorm !== null) widths.push(["o", hiddenSize]);
  if (layer.mlpOutputNorm !== null) widths.push(["down", hiddenSize]);
  return new Map(widths);
}

const rankOf = (projection: Projection) => `r_${projection}`; // as a dimension's name
const readWidths = projections.map((projection) => [readName(projection), rankOf(projection)] as const);

/** @returns a model with outputs `output`, `keys`, `values` and what is kept */
export function buildForwardLayer(shape: LayerShape): Uint8Array {
  const writer = new LayerWriter(shape);
  writer.forwardOutputs();
  for (const [name, width] of shape.keep ? [...keptWidths(shape), ...readWidths] : []) {
    writer.output(writer.kept.get(name)!.name, layerOutputs.kept(name), ["S", width]);
  }
  return writer.graph.builder.finish();
}

/** @returns a forward model that also gives, of what each of the matrices reads, the sum and the products' sum */
export function buildMomentsLayer(shape: LayerShape, matrices: readonly MatrixName[]): Uint8Array {
  const writer = new LayerWriter(shape);
  const { graph } = writer;
  writer.forwardOutputs();
  for (const matrix of matrices) {
    const x = writer.read.get(matrix)!.name;
    const sum = graph.node("ReduceSum", [x, graph.builder.integers([0])], { attributes: { keepdims: 0 } });
    writer.output(sum, layerOutputs.sumReadBy(matrix), ["in"]);
    writer.output(graph.matmul(x, x, { transA: 1 }), layerOutputs.productsReadBy(matrix), ["in", "in"]);
  }
  return graph.builder.finish();
}

/** @returns a model with the outputs that are gradients */
export function buildBackwardLayer(shape: LayerShape): Uint8Array {
  const writer = new LayerWriter(shape);
  const { config } = shape;
  const keyWidth = config.kvHeads * config.headDim;
  const { hidden, output, keys, values, past } = writer.layer();
  const keyValues = (["keys", "v"] as const).map((name) => [name, keyWidth] as const);
  const given = [...keptWidths(shape), ...readWidths, ...keyValues];
  for (const [name, width] of shape.keep ? given : []) {
    writer.kept.get(name)!.given(writer.input(layerInputs.kept(name), ["S", width]));
  }
  output.addGradient(writer.input(layerInputs.outputGradient, ["S", config.hiddenSize]));
  keys.addGradient(writer.input(layerInputs.keysGradient, ["S", keyWidth]));
  values.addGradient(writer.input(layerInputs.valuesGradient, ["S", keyWidth]));
  writer.graph.differentiate();
  const gradient = (value: Value, name: string, width: number) =>
    writer.output(value.gradient(writer.graph)!, name, ["n", width]);
  gradient(hidden, layerOutputs.hiddenGradient, config.hiddenSize);
  gradient(past.keys, layerOutputs.pastKeysGradient, keyWidth);
  gradient(past.values, layerOutputs.pastValuesGradient, keyWidth);
  // Nodes that nothing reads run last-written first, each right behind what it reads: so the first of these to be known
  // are written last.
  for (const { name, write, width } of writer.adapterGradients.toReversed()) {
    writer.output(write(), name, ["r", width]);
  }
  for (const [matrix, { x, gradient }] of shape.factors === true ? writer.factors : []) {
    const byFeature = (tokens: string) => writer.graph.transpose(tokens, [1, 0]);
    writer.output(byFeature(x.name), layerOutputs.readBy(matrix), ["in", "S"]);
    writer.output(byFeature(gradient), layerOutputs.givenBy(matrix), ["out", "S"]);
  }
  return writer.graph.builder.finish();
}

type NormName = Extract<LayerWeight, `${string}Norm`>;
type LinearSite = Exclude<MatrixName, "qkv">;
type Reads = ReadonlyMap<Projection, Value>;
type AdapterGradient = { readonly name: string; readonly write: () => string; readonly width: number };

class LayerWriter {
  readonly graph: DifferentiableGraph;
  readonly kept = new Map<KeptName, Value>();
  readonly adapterGradients: AdapterGradient[] = []; // as they can be written
  readonly read = new Map<MatrixName, Value>();
  readonly factors = new Map<MatrixName, { readonly x: Value; readonly gradient: string }>();
  readonly #config: ModelConfig;
  readonly #weights: PreparedLayer;
  readonly #rotary: RotaryNames;
  readonly #tiles: TileNames;
  readonly #dimensions: number;

  constructor({ config, layer, newGraph }: LayerShape) {
    this.graph = newGraph();
    this.#config = config;
    this.#weights = layer;
    this.#dimensions = config.rotaries[0]!.dimensions;
    const half = this.#dimensions / 2;
    this.#rotary = {
      cos: this.input(layerInputs.cos, ["S", half]),
      sin: this.input(layerInputs.sin, ["S", half]),
    };
    const { heads, kvHeads } = config;
    const rows = (name: string, shape: readonly (number | string)[]) =>
      this.graph.builder.input(name, "int32", shape);
    this.#tiles = {
      mask: this.input(layerInputs.mask, ["T", 1, "GQ", "N"]),
      queryRows: rows(layerInputs.queryRows, ["T", kvHeads, "GQ"]),
      tokenRows: rows(layerInputs.tokenRows, ["S", heads]),
      keyRows: rows(layerInputs.keyRows, ["T", kvHeads, "N"]),
      keyTokenRows: rows(layerInputs.keyTokenRows, ["seen", kvHeads]),
    };
  }

  input(name: string, shape: readonly (number | string)[]): string {
    return this.graph.builder.input(name, "float32", shape);
  }

  /** @param node must not be an input of the graph, nor another output */
  output(node: string, name: string, shape: readonly (number | string)[]): void {
    this.graph.builder.rename(node, name);
    this.graph.builder.output(name, "float32", shape);
  }

  forwardOutputs(): void {
    const { output, keys, values } = this.layer();
    const { hiddenSize, kvHeads, headDim } = this.#config;
    this.output(output.name, layerOutputs.output, ["S", hiddenSize]);
    this.output(keys.name, layerOutputs.keys, ["S", kvHeads * headDim]);
    this.output(values.name, layerOutputs.values, ["S", kvHeads * headDim]);
  }

  layer() {
    const { graph } = this;
    const { hiddenSize, activation } = this.#config;
    const name = this.input(layerInputs.hidden, ["S", hiddenSize]);
    const hidden = graph.value(() => name);
    const { context, ...rest } = this.#attention(this.#norm(hidden, "attentionNorm"));
    const attended = graph.add(hidden, this.#norm(this.#linear(context, "o"), "attentionOutputNorm"));
    this.kept.set("attended", attended);
    const normed = this.#norm(attended, "mlpNorm");
    const reads = this.#reads(normed, readTogether.mlp);
    const inputs = {
      gate: this.#adapted(this.#frozen(normed, "gate"), reads, "gate"),
      up: this.#adapted(this.#frozen(normed, "up"), reads, "up"),
    };
    const inner = gated(graph, inputs, activation);
    const output = graph.add(attended, this.#norm(this.#linear(inner, "down"), "mlpOutputNorm"));
    return { hidden, output, ...rest };
  }

  #attention(normed: Value) {
    const { graph } = this;
    const { heads, kvHeads, headDim } = this.#config;
    const { shapes } = adapterTargets(this.#config);
    const reads = this.#reads(normed, readTogether.attention);
    const fused = this.#frozen(normed, "qkv");
    const [q, k, v] = graph.splitColumns(fused, [shapes.q.out, shapes.k.out, shapes.v.out]);
    const rotated = (x: Value, norm: "queryNorm" | "keyNorm", count: number) =>
      rotate(graph, this.#norm(x, norm), {
        ...this.#rotary,
        heads: count,
        headDim,
        dimensions: this.#dimensions,
      });
    const queries = rotated(this.#adapted(q!, reads, "q"), "queryNorm", heads);
    const keys = rotated(this.#adapted(k!, reads, "k"), "keyNorm", kvHeads);
    const values = this.#adapted(v!, reads, "v");
    const split = graph.builder.input(layerInputs.keySplit, "int64", [2]);
    const all = {
      keys: this.#afterPast(keys, layerInputs.pastKeys, split),
      values: this.#afterPast(values, layerInputs.pastValues, split),
    };
    const seen = { keys: all.keys.joined, values: all.values.joined };
    const context = attention(graph, { queries, ...seen, tiles: this.#tiles }, this.#config);
    this.kept.set("keys", keys);
    return { context, keys, values, past: { keys: all.keys.past, values: all.values.past } };
  }

  /** Earlier tokens' rows in front of the new ones'. */
  #afterPast(rows: Value, pastName: string, split: string): { past: Value; joined: Value } {
    const { graph } = this;
    const name = this.input(pastName, ["P", this.#config.kvHeads * this.#config.headDim]);
    const past = graph.value(() => name);
    const joined = graph.differentiable(
      () => graph.node("Concat", [name, rows.name], { attributes: { axis: 0 } }),
      (gradient) => {
        const [ofPast, ofRows] = graph.builder.node("Split", [gradient, split], {
          outputs: 2,
          attributes: { axis: 0 },
        });
        past.addGradient(ofPast!);
        rows.addGradient(ofRows!);
      },
    );
    return { past, joined };
  }

  /** What it reads goes first: going back, its part of x's gradient is then added to the larger one. */
  #linear(x: Value, site: LinearSite): Value {
    const reads = this.#reads(x, [site]);
    return this.#adapted(this.#frozen(x, site), reads, site);
  }

  #frozen(x: Value, matrix: MatrixName): Value {
    this.read.set(matrix, x);
    const y = this.graph.linear(x, this.#weight(matrix)!, this.#weight(`${matrix}Bias`));
    this.graph.operation([y], ([gradient]) => this.factors.set(matrix, { x, gradient: gradient! }));
    return y;
  }

  /** What the projections' modules read of x. */
  #reads(x: Value, together: readonly Projection[]): Reads {
    const { shapes } = adapterTargets(this.#config);
    const modules = together.map((projection) => ({
      a: this.input(layerInputs.a(projection), [rankOf(projection), shapes[projection].in]),
      scale: this.input(layerInputs.scale(projection), [1]),
    }));
    const isOne = together.length === 1;
    const ranks = isOne
      ? ""
      : this.graph.builder.input(layerInputs.ranks(together), "int64", [together.length]);
    const values = this.graph.readLowRank(x, { modules, ranks }, (write) => {
      let names: string[] | null = null;
      for (const [index, projection] of together.entries()) {
        const writeOne = () => {
          names ??= write();
          return names[index]!;
        };
        const name = layerOutputs.aGradient(projection);
        this.adapterGradients.push({ name, write: writeOne, width: shapes[projection].in });
      }
    });
    const reads = new Map(together.map((projection, index) => [projection, values[index]!]));
    for (const [projection, read] of reads) this.kept.set(readName(projection), read);
    return reads;
  }

  #adapted(y: Value, reads: Reads, projection: Projection): Value {
    const { out } = adapterTargets(this.#config).shapes[projection];
    const b = this.input(layerInputs.b(projection), [rankOf(projection), out]);
    const sum = this.graph.addLowRank(y, { read: reads.get(projection)!, b }, (write) => {
      this.adapterGradients.push({ name: layerOutputs.bGradient(projection), write, width: out });
    });
    this.kept.set(projection, sum);
    return sum;
  }

  /** The identity where the family has no such norm. */
  #norm(x: Value, norm: NormName): Value {
    const weight = this.#weight(norm);
    if (weight === null) return x;
    const { hiddenSize, headDim, heads, kvHeads, normEpsilon: epsilon } = this.#config;
    const perHead = { queryNorm: heads, keyNorm: kvHeads }[norm as string];
    const shape =
      perHead === undefined
        ? { width: hiddenSize, columns: hiddenSize }
        : { width: headDim, columns: perHead * headDim };
    return this.graph.norm(x, weight, { ...shape, epsilon });
  }

  #weight(name: LayerWeight): string | null {
    const weight = this.#weights[name];
    if (weight === null) return null;
    const shape = "length" in weight ? [weight.length] : [weight.rows, weight.columns];
    return this.input(layerInputs.weight(name), shape);
  }
}
