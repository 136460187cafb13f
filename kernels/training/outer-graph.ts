// Adds a window's part to a whole matrix' gradient: sum + y xᵀ.

import { GraphBuilder } from "../onnx/graph-builder.ts";

export const outerInputs = { x: "x", y: "y", sum: "sum" } as const; // [in, tokens], [out, tokens], [out, in]
export const outerOutput = "new.sum";

export function buildOuterGraph(): Uint8Array {
  const builder = new GraphBuilder();
  const { x, y, sum } = outerInputs;
  builder.input(x, "float32", ["in", "n"]);
  builder.input(y, "float32", ["out", "n"]);
  builder.input(sum, "float32", ["out", "in"]);
  builder.node("Gemm", [y, x, sum], { outputs: [outerOutput], attributes: { transB: 1 } });
  builder.output(outerOutput, "float32", ["out", "in"]);
  return builder.finish();
}
