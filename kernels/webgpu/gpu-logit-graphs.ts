// What is computed of logits on the device: graphs over [rows, vocab] that tell a few numbers of a row.

import { GraphBuilder } from "../onnx/graph-builder.ts";

/** Tokens of a block: one crosses the bus for a draw from the whole row. */
export const blockTokens = 128;

/** Stands for minus infinity, which shaders may take for anything. */
export const unlikeliest = -1e30;

const float32 = 1; // TensorProto.DataType
const least = -150; // exp of less is zero in float32

/** Whole rows. */
export function rowsGraph(vocabSize: number): Uint8Array {
  const graph = new GraphBuilder();
  takeRows(graph, vocabSize, "rows");
  graph.output("rows", "float32", ["m", vocabSize]);
  return graph.finish();
}

/** The `count` largest of each row, and the sum of all weights. */
export function rankGraph(vocabSize: number): Uint8Array {
  const graph = new GraphBuilder();
  takeRows(graph, vocabSize, "rows");
  graph.input("temperatures", "float32", ["m", 1]);
  graph.input("count", "int64", [1]);
  graph.node("TopK", ["rows", "count"], { outputs: ["values", "ids"], attributes: { axis: -1 } });
  const [largest] = graph.node("ReduceMax", ["rows", graph.integers([1])]);
  const weights = weightsOf(graph, "rows", { largest: largest!, temperatures: "temperatures" });
  graph.node("ReduceSum", [weights, graph.integers([1])], { outputs: ["totals"] });
  graph.output("values", "float32", ["m", "k"]);
  graph.output("ids", "int64", ["m", "k"]);
  graph.output("totals", "float32", ["m", 1]);
  return graph.finish();
}

/**
 * The block in which a row's weights, summed in order, pass `randoms` of all of them: its number, what comes before
 * it, and its logits.
 */
export function blockGraph(vocabSize: number): Uint8Array {
  const graph = new GraphBuilder();
  const blocks = Math.max(2, Math.ceil(vocabSize / blockTokens)); // all but the last one are not none
  const axes = graph.integers([1, 2]);
  takeRows(graph, vocabSize, "rows");
  graph.input("temperatures", "float32", ["m", 1, 1]);
  graph.input("randoms", "float32", ["m", 1]);
  const padding = graph.integers([0, 0, 0, blocks * blockTokens - vocabSize]);
  const [padded] = graph.node("Pad", ["rows", padding, graph.float(unlikeliest)]);
  const [split] = graph.node("Reshape", [padded!, graph.integers([0, blocks, blockTokens])]);
  const [largest] = graph.node("ReduceMax", [split!, axes]);
  graph.node("Reshape", [largest!, graph.integers([-1, 1])], { outputs: ["largest"] });
  const weights = weightsOf(graph, split!, { largest: largest!, temperatures: "temperatures" });
  const [sums] = graph.node("ReduceSum", [weights, graph.integers([2])], { attributes: { keepdims: 0 } });
  const [upTo] = graph.node("CumSum", [sums!, graph.integers([1])]);
  const [total] = graph.node("ReduceMax", [upTo!, graph.integers([1])], { outputs: ["totals"] });
  const [point] = graph.node("Mul", [total!, "randoms"]);
  const [isBefore] = graph.node("LessOrEqual", [upTo!, point!]);
  const [before] = graph.node("Cast", [isBefore!], { attributes: { to: float32 } });
  // The last block is never before the point, whatever rounding says.
  const slice = [graph.integers([0]), graph.integers([blocks - 1]), graph.integers([1])];
  const [others] = graph.node("Slice", [before!, ...slice]);
  const [passed] = graph.node("Pad", [others!, graph.integers([0, 0, 0, 1]), graph.float(0)]);
  const [reached] = graph.node("Pad", [others!, graph.integers([0, 1, 0, 0]), graph.float(1)]);
  graph.node("ReduceSum", [passed!, graph.integers([1])], { outputs: ["numbers"] });
  const [ends] = graph.node("Mul", [upTo!, passed!]);
  graph.node("ReduceMax", [ends!, graph.integers([1])], { outputs: ["befores"] });
  const [isChosen] = graph.node("Greater", [reached!, passed!]);
  const [mask] = graph.node("Unsqueeze", [isChosen!, graph.integers([2])]);
  const [chosen] = graph.node("Where", [mask!, split!, graph.float(unlikeliest)]);
  graph.node("ReduceMax", [chosen!, graph.integers([1])], {
    outputs: ["block"],
    attributes: { keepdims: 0 },
  });
  graph.output("numbers", "float32", ["m", 1]);
  graph.output("befores", "float32", ["m", 1]);
  graph.output("totals", "float32", ["m", 1]);
  graph.output("largest", "float32", ["m", 1]);
  graph.output("block", "float32", ["m", blockTokens]);
  return graph.finish();
}

/** A copy in which some logits are changed, and what these were (sampling/logits-query.ts). */
export function changeGraph(vocabSize: number): Uint8Array {
  const graph = new GraphBuilder();
  graph.input("logits", "float32", ["n", vocabSize]);
  graph.input("places", "int64", ["c", 2]); // row, token
  for (const name of ["biases", "repetitions", "addends"]) graph.input(name, "float32", ["c"]);
  graph.node("GatherND", ["logits", "places"], { outputs: ["unchanged"] });
  const [biased] = graph.node("Add", ["unchanged", "biases"]);
  const [divided] = graph.node("Div", [biased!, "repetitions"]);
  const [multiplied] = graph.node("Mul", [biased!, "repetitions"]);
  const [isPositive] = graph.node("Greater", [biased!, graph.float(0)]);
  const [repeated] = graph.node("Where", [isPositive!, divided!, multiplied!]);
  const [changed] = graph.node("Add", [repeated!, "addends"]);
  graph.node("ScatterND", ["logits", "places", changed!], { outputs: ["changed"] });
  graph.output("unchanged", "float32", ["c"]);
  graph.output("changed", "float32", ["n", vocabSize]);
  return graph.finish();
}

/** Single logits, by their places [row, token]. */
export function scoresGraph(vocabSize: number): Uint8Array {
  const graph = new GraphBuilder();
  graph.input("logits", "float32", ["n", vocabSize]);
  graph.input("places", "int64", ["c", 2]);
  graph.node("GatherND", ["logits", "places"], { outputs: ["scores"] });
  graph.output("scores", "float32", ["c"]);
  return graph.finish();
}

/** Weighted rows are added to sums, each to another one; those of which nothing `counts` yet begin with them. */
export function sumGraph(vocabSize: number): Uint8Array {
  const graph = new GraphBuilder();
  graph.input("sums", "float32", ["s", vocabSize]);
  graph.input("places", "int64", ["m", 1]);
  graph.input("counts", "float32", ["m", 1]); // 0 or 1
  graph.input("weights", "float32", ["m", 1]);
  takeRows(graph, vocabSize, "rows");
  const [weighted] = graph.node("Mul", ["rows", "weights"]);
  const [before] = graph.node("GatherND", ["sums", "places"]);
  const [isBegun] = graph.node("Greater", ["counts", graph.float(0)]);
  const [kept] = graph.node("Where", [isBegun!, before!, graph.float(0)]); // no product: it may be infinite
  const [added] = graph.node("Add", [kept!, weighted!]);
  graph.node("ScatterND", ["sums", "places", added!], { outputs: ["changed"] });
  graph.output("changed", "float32", ["s", vocabSize]);
  return graph.finish();
}

/** What sampling/blend.ts's divergence is made of, for rows of logits and the sums that they are compared with. */
export function divergenceGraph(vocabSize: number): Uint8Array {
  const graph = new GraphBuilder();
  graph.input("sums", "float32", ["s", vocabSize]);
  graph.input("wanted", "int32", ["n"]);
  graph.input("others", "float32", ["n", vocabSize]);
  const [ones] = graph.node("Gather", ["sums", "wanted"], { attributes: { axis: 0 } });
  const axes = graph.integers([1]);
  const side = (logits: string, name: string) => {
    const top = { outputs: [`${name}Largest`, `${name}Top`], attributes: { axis: -1 } };
    const [largest] = graph.node("TopK", [logits, graph.integers([1])], top);
    const [below] = graph.node("Sub", [logits, largest!]);
    const [finite] = graph.node("Max", [below!, graph.float(least)]);
    const [weights] = graph.node("Exp", [finite!]);
    graph.node("ReduceSum", [weights!, axes], { outputs: [`${name}Sums`] });
    graph.output(`${name}Top`, "int64", ["n", 1]);
    graph.output(`${name}Sums`, "float32", ["n", 1]);
    return { below: below!, weights: weights! };
  };
  const [one, other] = [side(ones!, "one"), side("others", "other")];
  const [difference] = graph.node("Sub", [one.below, other.below]);
  const [weighted] = graph.node("Mul", [one.weights, difference!]);
  graph.node("ReduceSum", [weighted!, axes], { outputs: ["differences"] });
  graph.output("differences", "float32", ["n", 1]);
  return graph.finish();
}

function takeRows(graph: GraphBuilder, vocabSize: number, output: string): void {
  graph.input("logits", "float32", ["n", vocabSize]);
  graph.input("wanted", "int32", ["m"]);
  graph.node("Gather", ["logits", "wanted"], { outputs: [output], attributes: { axis: 0 } });
}

function weightsOf(
  graph: GraphBuilder,
  logits: string,
  { largest, temperatures }: { readonly largest: string; readonly temperatures: string },
): string {
  const [below] = graph.node("Sub", [logits, largest]);
  const [scaled] = graph.node("Div", [below!, temperatures]);
  const [finite] = graph.node("Max", [scaled!, graph.float(least)]);
  return graph.node("Exp", [finite!])[0]!;
}
