// One product with a frozen matrix, both ways, against the same in double precision.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { test } from "node:test";
import { skipsRowCoding } from "../../tests/measured-processor.ts";
import { randomAt } from "../sampling/random.ts";
import { floatTensor, Session } from "../session.ts";
import { blockCoding } from "./integer-blocks.ts";
import type { IntegerCoding } from "./integer-coding.ts";
import { IntegerGraph } from "./integer-graph.ts";
import { rowCoding } from "./integer-rows.ts";
import { ModelWeights } from "./model-weights.ts";

/** Rounding of both factors to eight bits; of one to seven gives more. */
const tolerance = 0.012;

const tokens = 9;
const out = 150;
const width = 200;
const draw = (count: number, seed: number) =>
  Float32Array.from({ length: count }, (_, i) => randomAt(seed, i) - 0.5);
const weights = draw(out * width, 1);
const bias = draw(out, 2);
const x = draw(tokens * width, 3);
const gradient = draw(tokens * out, 4);
x.fill(0, 3 * width, 4 * width); // a token's row of zeros, as gradients of masked tokens are

for (const [name, coding] of Object.entries({ blocks: blockCoding, rows: rowCoding })) {
  const skip = coding === rowCoding && skipsRowCoding;
  test(
    `${name}: forward with a bias, the gradient by what is multiplied, and what is no number`,
    { skip },
    () => compare(coding),
  );
}

async function compare(coding: IntegerCoding): Promise<void> {
  const file = new ModelWeights();
  const shape = { rows: out, columns: width };
  const frozen = {
    vector: () => bias.slice(),
    matrix: () => coding.rows(weights, shape),
    transposed: () => coding.columns(weights, shape),
  };
  const graph = new IntegerGraph(frozen, file);
  const { builder } = graph;
  const value = graph.value(() => builder.input("x", "float32", ["n", width]));
  const biasName = graph.frozen({ name: "bias", shape: [out] });
  const y = graph.linear(value, { name: "w", shape: [out, width] }, biasName);
  builder.output(y.name, "float32", ["n", out]);
  y.addGradient(builder.input("y.gradient", "float32", ["n", out]));
  graph.differentiate();
  const xGradient = value.gradient(graph)!;
  builder.output(xGradient, "float32", ["n", width]);

  let path = "";
  const session = await file.with(builder.finish(), (modelPath) => {
    path = modelPath;
    return Session.open({ modelPath, threads: 1, keepMemory: false });
  });
  assert.equal(existsSync(dirname(path)), false, "the directory that it was opened from");
  const outputs = await session.run({
    x: floatTensor(x, [tokens, width]),
    "y.gradient": floatTensor(gradient, [tokens, out]),
  });
  const broken = x.slice();
  broken[5 * width + 17] = Number.NaN;
  const { [y.name]: brokenY } = await session.run({
    x: floatTensor(broken, [tokens, width]),
    "y.gradient": floatTensor(gradient, [tokens, out]),
  });
  await session.close();
  for (const [at, value] of brokenY!.entries()) {
    assert.equal(Number.isNaN(value), Math.floor(at / out) === 5, "what is no number stays none, in its row");
  }
  const expectedY = (token: number, row: number) =>
    bias[row]! + dot(width, (i) => x[token * width + i]! * weights[row * width + i]!);
  const expectedGradient = (token: number, column: number) =>
    dot(out, (row) => gradient[token * out + row]! * weights[row * width + column]!);
  assertClose(outputs[y.name]!, expectedY, out);
  assertClose(outputs[xGradient]!, expectedGradient, width);
}

function dot(length: number, product: (index: number) => number): number {
  return Array.from({ length }, (_, index) => product(index)).reduce((sum, one) => sum + one, 0);
}

function assertClose(
  found: Float32Array,
  expected: (row: number, column: number) => number,
  columns: number,
) {
  assert.equal(found.length, tokens * columns);
  let difference = 0;
  let norm = 0;
  for (const [at, value] of found.entries()) {
    const wanted = expected(Math.floor(at / columns), at % columns);
    difference += (value - wanted) ** 2;
    norm += wanted ** 2;
  }
  const error = Math.sqrt(difference / norm);
  assert.ok(error > 1e-5, "the products were not of integers");
  assert.ok(error <= tolerance, `relative error ${error}`);
}
