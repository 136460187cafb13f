// What the builder writes is loaded and run by the runtime: every kind of attribute, initializer and dimension.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { type Feeds, floatTensor, indexTensor, Session } from "../session.ts";
import { GraphBuilder } from "./graph-builder.ts";

const directory = mkdtempSync(join(tmpdir(), "cotenant-graph-"));
after(() => rmSync(directory, { recursive: true, force: true }));

async function run(graph: GraphBuilder, feeds: Feeds) {
  const modelPath = join(directory, "model.onnx");
  writeFileSync(modelPath, graph.finish());
  const session = await Session.open({ modelPath, threads: 1 });
  const outputs = await session.run(feeds);
  await session.close();
  return outputs;
}

test("an external weight at an offset, a contrib node with a float attribute, a dynamic dimension", async () => {
  const bytes = new Uint8Array(8192);
  bytes.set(new Uint8Array(Float32Array.of(1, 2, 3, 4, 5, 6).buffer), 4096);
  writeFileSync(join(directory, "data.bin"), bytes);
  const graph = new GraphBuilder("data.bin");
  const x = graph.input("x", "float32", ["T", 3]);
  const weight = graph.external("w", "float32", [2, 3], { offset: 4096, length: 24 });
  graph.contrib("FusedMatMul", [x, weight], {
    outputs: ["y"],
    attributes: { transB: 1, alpha: { float: 0.5 } },
  });
  graph.output("y", "float32", ["T", 2]);
  assert.equal(graph.nodeCount, 1);
  for (const tokens of [1, 2]) {
    const input = Float32Array.from({ length: tokens * 3 }, (_, i) => i);
    const { y } = await run(graph, { x: floatTensor(input, [tokens, 3]) });
    assert.deepEqual([...y!], [4, 8.5, 13, 31].slice(0, tokens * 2)); // (0, 1, 2) and (3, 4, 5) times W / 2
  }
});

test("lists, negative numbers and strings as attributes; several outputs; shapes shared as initializers", async () => {
  const graph = new GraphBuilder();
  const x = graph.input("x", "float32", [2, "N"]);
  assert.equal(graph.integers([2, 4]), graph.integers([2, 4]));
  assert.notEqual(graph.integers([2, 4]), graph.integers([4, 2]));
  const [turned] = graph.node("Transpose", [x], { attributes: { perm: [1, 0] } }); // [4, 2]
  const [reshaped] = graph.node("Reshape", [turned!, graph.integers([2, -1])]);
  const parts = graph.node("Split", [reshaped!, graph.integers([1, 3])], {
    outputs: 2,
    attributes: { axis: -1 },
  });
  assert.equal(parts.length, 2);
  const indices = graph.input("indices", "int64", ["n", 2]);
  const updates = graph.input("updates", "float32", ["n"]);
  graph.node("ScatterND", [parts[1]!, indices, updates], {
    outputs: ["y"],
    attributes: { reduction: "add" },
  });
  graph.output("y", "float32", [2, 3]);
  const { y } = await run(graph, {
    x: floatTensor(Float32Array.of(0, 1, 2, 3, 10, 11, 12, 13), [2, 4]),
    indices: indexTensor([0, 0, 0, 0, 1, 2], [3, 2]),
    updates: floatTensor(Float32Array.of(100, 200, 1000), [3]),
  });
  assert.deepEqual([...y!], [310, 1, 11, 12, 3, 1013]);
});

test("an input that is left out is an empty name", async () => {
  const graph = new GraphBuilder();
  const x = graph.input("x", "float32", ["N"]);
  const most = graph.input("most", "float32", []);
  graph.node("Clip", [x, "", most], { outputs: ["y"] });
  graph.output("y", "float32", ["N"]);
  const { y } = await run(graph, {
    x: floatTensor(Float32Array.of(-5, 1, 9), [3]),
    most: floatTensor(Float32Array.of(2), []),
  });
  assert.deepEqual([...y!], [-5, 1, 2]);
});

test("a broken graph is refused by the runtime, not run", async () => {
  const graph = new GraphBuilder();
  graph.node("Relu", ["nothing"], { outputs: ["y"] });
  graph.output("y", "float32", ["N"]);
  await assert.rejects(run(graph, {}));
});
