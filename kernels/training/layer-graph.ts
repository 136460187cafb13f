// Half a transformer layer, attention or MLP, as an ONNX graph without weights: they enter as inputs, so one graph
// serves all layers of a model. Written twice: forward, and forward with backward, which recomputes from the half's input
// what it needs, or reads what the forward graph kept of it.

import { adapterTargets } from "../model-family.ts";
import type { Value } from "./differentiable-graph.ts";
import {
  type Half,
  halfProjections,
  type KeptName,
  layerInputs,
  layerOutputs,
  type MatrixName,
  readName,
} from "./layer-names.ts";
import { type HalfShape, LayerWriter, rankOf } from "./layer-writer.ts";

export type LayerShape = HalfShape & {
  readonly keep: boolean; // whether the forward graph gives, and the backward graph takes, what can be kept
  readonly factors?: boolean; // whether the backward graph gives the factors of the matrices' gradients
};

/** Floats per token that a half keeps under each name, without keys, values and what adapters read. */
export function keptWidths({ config, layer, half }: Omit<HalfShape, "newGraph">): Map<KeptName, number> {
  const { q, k, gate, up } = adapterTargets(config).shapes;
  const { hiddenSize } = config;
  const widths: Record<Half, [name: KeptName, width: number, isNormed?: boolean][]> = {
    attention: [
      ["q", q.out],
      ["k", k.out, layer.keyNorm !== null],
      ["o", hiddenSize, layer.attentionOutputNorm !== null],
    ],
    mlp: [
      ["gate", gate.out],
      ["up", up.out],
      ["down", hiddenSize, layer.mlpOutputNorm !== null],
    ],
  };
  return new Map(widths[half].flatMap(([name, width, isNormed = true]) => (isNormed ? [[name, width]] : [])));
}

const readWidths = (half: Half) =>
  halfProjections[half].map((projection) => [readName(projection), rankOf(projection)] as const);

/** @returns a model with output `output`, in attention `keys` and `values` too, and what is kept */
export function buildForwardLayer(shape: LayerShape): Uint8Array {
  const writer = new LayerWriter(shape);
  writer.forwardOutputs();
  for (const [name, width] of shape.keep ? [...keptWidths(shape), ...readWidths(shape.half)] : []) {
    writer.output(writer.kept.get(name)!.name, layerOutputs.kept(name), ["S", width]);
  }
  return writer.graph.builder.finish();
}

/** @returns a forward model that also gives, of what each of the half's matrices among these reads, the sum and the products' sum */
export function buildMomentsLayer(shape: LayerShape, matrices: readonly MatrixName[]): Uint8Array {
  const writer = new LayerWriter(shape);
  const { graph } = writer;
  writer.forwardOutputs();
  for (const matrix of matrices) {
    const x = writer.read.get(matrix)?.name;
    if (x === undefined) continue;
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
  const { hidden, output, keyValues } = writer.layer();
  const kept = [...keptWidths(shape), ...readWidths(shape.half)];
  if (keyValues !== null) kept.push(["keys", keyWidth], ["v", keyWidth]);
  for (const [name, width] of shape.keep ? kept : []) {
    writer.kept.get(name)!.given(writer.input(layerInputs.kept(name), ["S", width]));
  }
  output.addGradient(writer.input(layerInputs.outputGradient, ["S", config.hiddenSize]));
  keyValues?.keys.addGradient(writer.input(layerInputs.keysGradient, ["S", keyWidth]));
  keyValues?.values.addGradient(writer.input(layerInputs.valuesGradient, ["S", keyWidth]));
  writer.graph.differentiate();
  const gradient = (value: Value, name: string, width: number) =>
    writer.output(value.gradient(writer.graph)!, name, ["n", width]);
  gradient(hidden, layerOutputs.hiddenGradient, config.hiddenSize);
  if (keyValues !== null) {
    gradient(keyValues.past.keys, layerOutputs.pastKeysGradient, keyWidth);
    gradient(keyValues.past.values, layerOutputs.pastValuesGradient, keyWidth);
  }
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
