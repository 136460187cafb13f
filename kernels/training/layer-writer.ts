// What half a layer computes, attention or MLP, written into a graph: its values, what of them can be kept, and what the
// adapter's and the matrices' gradients are made of. Which graph asks for what of it is layer-graph.ts' business.
//
// Dimensions: S new tokens, P earlier ones whose keys and values are there, K kv heads of width D.

import type { Projection } from "../adapter.ts";
import type { ModelConfig } from "../model-config.ts";
import { adapterTargets } from "../model-family.ts";
import type { PreparedLayer } from "../prepare/layout.ts";
import type { DifferentiableGraph, FrozenWeight, Value } from "./differentiable-graph.ts";
import {
  type Half,
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
export type HalfShape = {
  readonly config: ModelConfig;
  readonly layer: PreparedLayer;
  readonly half: Half;
  readonly newGraph: () => DifferentiableGraph;
};

/** As a dimension's name. */
export const rankOf = (projection: Projection) => `r_${projection}`;

type NormName = Extract<LayerWeight, `${string}Norm`>;
type LinearSite = Exclude<MatrixName, "qkv">;
type Reads = ReadonlyMap<Projection, Value>;
/** What attention makes of its input, and what it was given of earlier tokens. */
type KeyValues = {
  readonly keys: Value;
  readonly values: Value;
  readonly past: { readonly keys: Value; readonly values: Value };
};
type HalfValues = { readonly hidden: Value; readonly output: Value; readonly keyValues: KeyValues | null };
type AdapterGradient = { readonly name: string; readonly write: () => string; readonly width: number };

export class LayerWriter {
  readonly graph: DifferentiableGraph;
  readonly kept = new Map<KeptName, Value>();
  readonly adapterGradients: AdapterGradient[] = []; // as they can be written
  readonly read = new Map<MatrixName, Value>();
  readonly factors = new Map<MatrixName, { readonly x: Value; readonly gradient: string }>();
  readonly #config: ModelConfig;
  readonly #weights: PreparedLayer;
  readonly #half: Half;

  constructor({ config, layer, half, newGraph }: HalfShape) {
    this.graph = newGraph();
    this.#config = config;
    this.#weights = layer;
    this.#half = half;
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
    const { output, keyValues } = this.layer();
    const { hiddenSize, kvHeads, headDim } = this.#config;
    this.output(output.name, layerOutputs.output, ["S", hiddenSize]);
    if (keyValues === null) return;
    this.output(keyValues.keys.name, layerOutputs.keys, ["S", kvHeads * headDim]);
    this.output(keyValues.values.name, layerOutputs.values, ["S", kvHeads * headDim]);
  }

  layer(): HalfValues {
    const name = this.input(layerInputs.hidden, ["S", this.#config.hiddenSize]);
    const hidden = this.graph.value(() => name);
    return this.#half === "attention" ? this.#attentionHalf(hidden) : this.#mlpHalf(hidden);
  }

  #attentionHalf(hidden: Value): HalfValues {
    const { context, ...keyValues } = this.#attention(this.#norm(hidden, "attentionNorm"));
    const output = this.graph.add(hidden, this.#norm(this.#linear(context, "o"), "attentionOutputNorm"));
    return { hidden, output, keyValues };
  }

  #mlpHalf(hidden: Value): HalfValues {
    const normed = this.#norm(hidden, "mlpNorm");
    const reads = this.#reads(normed, readTogether.mlp);
    const inputs = {
      gate: this.#adapted(this.#frozen(normed, "gate"), reads, "gate"),
      up: this.#adapted(this.#frozen(normed, "up"), reads, "up"),
    };
    const inner = gated(this.graph, inputs, this.#config.activation);
    const output = this.graph.add(hidden, this.#norm(this.#linear(inner, "down"), "mlpOutputNorm"));
    return { hidden, output, keyValues: null };
  }

  #attention(normed: Value): KeyValues & { readonly context: Value } {
    const { graph } = this;
    const { heads, kvHeads, headDim } = this.#config;
    const { shapes } = adapterTargets(this.#config);
    const { rotary, dimensions } = this.#rotary();
    const reads = this.#reads(normed, readTogether.attention);
    const fused = this.#frozen(normed, "qkv");
    const [q, k, v] = graph.splitColumns(fused, [shapes.q.out, shapes.k.out, shapes.v.out]);
    const rotated = (x: Value, norm: "queryNorm" | "keyNorm", count: number) =>
      rotate(graph, this.#norm(x, norm), { ...rotary, heads: count, headDim, dimensions });
    const queries = rotated(this.#adapted(q!, reads, "q"), "queryNorm", heads);
    const keys = rotated(this.#adapted(k!, reads, "k"), "keyNorm", kvHeads);
    const values = this.#adapted(v!, reads, "v");
    const split = graph.builder.input(layerInputs.keySplit, "int64", [2]);
    const all = {
      keys: this.#afterPast(keys, layerInputs.pastKeys, split),
      values: this.#afterPast(values, layerInputs.pastValues, split),
    };
    const seen = { keys: all.keys.joined, values: all.values.joined };
    const context = attention(graph, { queries, ...seen, tiles: this.#tiles() }, this.#config);
    this.kept.set("keys", keys);
    return { context, keys, values, past: { keys: all.keys.past, values: all.values.past } };
  }

  #rotary(): { readonly rotary: RotaryNames; readonly dimensions: number } {
    const { dimensions } = this.#config.rotaries[0]!;
    const table = (name: string) => this.input(name, ["S", dimensions / 2]);
    return { rotary: { cos: table(layerInputs.cos), sin: table(layerInputs.sin) }, dimensions };
  }

  #tiles(): TileNames {
    const { heads, kvHeads } = this.#config;
    const rows = (name: string, shape: readonly (number | string)[]) =>
      this.graph.builder.input(name, "int32", shape);
    return {
      mask: this.input(layerInputs.mask, ["T", 1, "GQ", "N"]),
      queryRows: rows(layerInputs.queryRows, ["T", kvHeads, "GQ"]),
      tokenRows: rows(layerInputs.tokenRows, ["S", heads]),
      keyRows: rows(layerInputs.keyRows, ["T", kvHeads, "N"]),
      keyTokenRows: rows(layerInputs.keyTokenRows, ["seen", kvHeads]),
    };
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
    const y = this.graph.linear(x, this.#frozenWeight(matrix)!, this.#weight(`${matrix}Bias`));
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
    const weight = this.#frozenWeight(name);
    return weight === null ? null : this.graph.frozen(weight);
  }

  #frozenWeight(name: LayerWeight): FrozenWeight | null {
    const weight = this.#weights[name];
    if (weight === null) return null;
    const shape = "length" in weight ? [weight.length] : [weight.rows, weight.columns];
    return { name: layerInputs.weight(name), shape };
  }
}
