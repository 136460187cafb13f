// The output head's part of the loss, slice by slice of the vocabulary: running maximum, sum and weighted mean of
// the head's rows, as flash attention keeps them (arXiv 2205.14135). With p the softmax of a token's logits, the
// gradient of its target's log-probability by the normed hidden state is W[target] - sum p W, so one pass over the
// head gives both, and no more than [tokens, slice] logits exist.

import type { DifferentiableGraph } from "./differentiable-graph.ts";

export const lossInputs = {
  normed: "normed", // [n, hidden]
  head: "head", // [slice, hidden]
  maximum: "maximum", // [n, 1]
  sum: "sum", // [n, 1], of exp(logit - maximum)
  mean: "mean", // [n, hidden], of rows, weighted by exp(logit - maximum): not yet divided by the sum
} as const;

export const lossOutputs = { maximum: "new.maximum", sum: "new.sum", mean: "new.mean" } as const;

/** @returns a model that adds one slice to the running values; without the mean it gives log-probabilities only */
export function buildLossGraph(
  graph: DifferentiableGraph,
  { hiddenSize, mean: wantsMean }: { readonly hiddenSize: number; readonly mean: boolean },
): Uint8Array {
  const { builder } = graph;
  const { normed, head, maximum, sum, mean } = lossInputs;
  builder.input(normed, "float32", ["n", hiddenSize]);
  builder.input(head, "float32", ["slice", hiddenSize]);
  builder.input(maximum, "float32", ["n", 1]);
  builder.input(sum, "float32", ["n", 1]);
  const last = builder.integers([-1]);
  const logits = graph.matmul(normed, head, { transB: 1 });
  builder.node("Max", [maximum, graph.node("ReduceMax", [logits, last])], { outputs: [lossOutputs.maximum] });
  const kept = graph.node("Exp", [graph.node("Sub", [maximum, lossOutputs.maximum])]);
  const weights = graph.node("Exp", [graph.node("Sub", [logits, lossOutputs.maximum])]);
  builder.node("Add", [graph.node("Mul", [sum, kept]), graph.node("ReduceSum", [weights, last])], {
    outputs: [lossOutputs.sum],
  });
  builder.output(lossOutputs.maximum, "float32", ["n", 1]);
  builder.output(lossOutputs.sum, "float32", ["n", 1]);
  if (wantsMean) {
    builder.input(mean, "float32", ["n", hiddenSize]);
    builder.node("Gemm", [weights, head, graph.node("Mul", [mean, kept])], { outputs: [lossOutputs.mean] });
    builder.output(lossOutputs.mean, "float32", ["n", hiddenSize]);
  }
  return builder.finish();
}
