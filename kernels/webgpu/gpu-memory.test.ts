import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { openReference } from "../../tests/golden/reference-model.ts";
import { describeCheckpoint } from "../base-model.ts";
import { planLayout } from "../prepare/layout.ts";
import { gpuMemory } from "./gpu-memory.ts";
import { trainingBaseBytes } from "./training-device.ts";

const modelDirectory = fileURLToPath(new URL("../../models/tiny", import.meta.url));
const { config } = describeCheckpoint(modelDirectory);
const planned = (encoding: "float16" | "float32") =>
  gpuMemory({ modelDirectory, config, encoding, maxRows: 4, maxContext: 100 }).device;

test("float16 weights take half of float32's, and a step widens a layer's and the head's", () => {
  const [halves, floats] = [planned("float16"), planned("float32")];
  assert.equal(halves.weightsBytes, floats.weightsBytes / 2);
  const { hiddenSize: hidden, intermediateSize, heads, kvHeads, headDim, vocabSize } = config;
  const layer = hidden * (3 * intermediateSize + headDim * (2 * heads + 2 * kvHeads));
  assert.equal(halves.workBytes - floats.workBytes, 4 * (2 * layer + hidden * vocabSize));
});

test("a job on float16 holds no second copy of the base", () => {
  using model = openReference(modelDirectory);
  const layout = planLayout({ ...model, encoding: "float16" });
  const extra = trainingBaseBytes(layout);
  const vectorBytes = layout.vectors.reduce((sum, { length }) => sum + length * 4, 0);
  const widened = (extra - vectorBytes) / 4;
  const { qkv, o, gate, up, down } = layout.layers[0]!;
  const layer = [qkv, o, gate, up, down].reduce((sum, { rows, columns }) => sum + rows * columns, 0);
  const head = layout.head.rows * layout.head.columns;
  assert.equal(widened, layer + head + head / 2); // the head is one slice here, cut out as float16
});
