import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import { GraphBuilder } from "../onnx/graph-builder.ts";
import { dequantizeRows } from "../reference/dequantize-blocks.ts";
import { tolerances } from "../reference/tolerances.ts";
import { randomAt } from "../sampling/random.ts";
import { floatTensor, Session } from "../session.ts";
import {
  blockSize,
  blocksPerRow,
  packedRowBytes,
  type QuantizedBits,
  quantizeRows,
} from "./quantize-blocks.ts";

const directory = mkdtempSync(join(tmpdir(), "cotenant-quantize-"));
after(() => rmSync(directory, { recursive: true, force: true }));

/** Scales of the smallest subnormal values round to 0. */
const underflow = 1e-43;

function quantize(weights: Float32Array, columns: number, bits: QuantizedBits) {
  const rows = weights.length / columns;
  const packed = new Uint8Array(rows * packedRowBytes(columns, bits)).fill(0xaa);
  const scales = new Float32Array(rows * blocksPerRow(columns)).fill(Number.NaN);
  quantizeRows(weights, columns, bits, { packed, scales });
  return { packed, scales };
}

for (const bits of [4, 8] as const) {
  test(`${bits} bits: no value of a block is off by more than one step, and half a step in the mean square`, () => {
    const values = fc.array(fc.float({ noNaN: true, min: -100, max: 100 }), { minLength: 1, maxLength: 70 });
    fc.assert(
      fc.property(values, (list) => {
        const weights = Float32Array.from(list);
        const restored = dequantizeRows(quantize(weights, list.length, bits), list.length, bits);
        for (let first = 0; first < list.length; first += blockSize) {
          const block = weights.subarray(first, first + blockSize);
          const largest = block.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
          const step = largest / (2 ** (bits - 1) - 1); // that of plain rounding over the whole range
          const errors = [...block].map((value, i) => Math.abs(value - restored[first + i]!));
          assert.ok(errors.every((error) => error <= step * 1.0001 + underflow));
          const meanSquare = errors.reduce((sum, error) => sum + error * error, 0) / block.length;
          assert.ok(meanSquare <= (step / 2) ** 2 * 1.0001 + underflow ** 2);
        }
      }),
      { seed: 1, numRuns: 500 },
    );
  });

  test(`${bits} bits: a zero block has scale 0 and stays zero`, () => {
    const weights = new Float32Array(3 * blockSize);
    weights[0] = 1;
    weights[3 * blockSize - 1] = -2;
    const quantized = quantize(weights, 3 * blockSize, bits);
    assert.equal(quantized.scales[1], 0);
    const restored = dequantizeRows(quantized, 3 * blockSize, bits);
    assert.ok(restored.subarray(blockSize, 2 * blockSize).every((value) => value === 0));
    assert.ok(Math.abs(restored[0]! - 1) < 1e-6 && Math.abs(restored.at(-1)! + 2) < 1e-6);
  });

  test(`${bits} bits: a ragged last block is padded with zeros and every row starts on a block`, () => {
    const columns = blockSize + 5;
    const weights = Float32Array.from({ length: 2 * columns }, (_, i) => Math.sin(i + 1));
    const quantized = quantize(weights, columns, bits);
    const padded = dequantizeRows(quantized, 2 * blockSize, bits);
    for (let row = 0; row < 2; row++) {
      const padding = padded.subarray(row * 2 * blockSize + columns, (row + 1) * 2 * blockSize);
      assert.equal(padding.length, blockSize - 5);
      assert.ok(padding.every((value) => value === 0));
    }
    const second = quantize(weights.slice(columns), columns, bits);
    const rowBytes = packedRowBytes(columns, bits);
    assert.deepEqual(quantized.packed.subarray(rowBytes), second.packed);
    assert.deepEqual(quantized.scales.subarray(2), second.scales);
  });

  test(`${bits} bits: MatMulNBits dequantizes as the reference does`, async () => {
    const rows = 6;
    const columns = 75;
    const weights = Float32Array.from({ length: rows * columns }, (_, i) => randomAt(bits, i) * 4 - 2);
    const quantized = quantize(weights, columns, bits);
    const expected = dequantizeRows(quantized, columns, bits);
    const identity = Float32Array.from({ length: columns * columns }, (_, i) =>
      i % (columns + 1) === 0 ? 1 : 0,
    );
    const found = await runMatMul(quantized, { rows, columns, bits, input: identity }); // [columns, rows]
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const difference = Math.abs(found[column * rows + row]! - expected[row * columns + column]!);
        assert.ok(difference <= tolerances.dequantizedValue, `[${row}, ${column}]: ${difference}`);
      }
    }
  });
}

test("8 bits are closer than 4", () => {
  const weights = Float32Array.from({ length: 320 }, (_, i) => randomAt(3, i) - 0.5);
  const error = (bits: QuantizedBits) =>
    dequantizeRows(quantize(weights, 320, bits), 320, bits).reduce(
      (sum, value, i) => sum + (value - weights[i]!) ** 2,
      0,
    );
  assert.ok(error(8) * 100 < error(4));
});

/** One MatMulNBits node as the forward graph has it: y [tokens, rows] = x [tokens, columns] times W transposed. */
async function runMatMul(
  { packed, scales }: { packed: Uint8Array; scales: Float32Array },
  shape: { rows: number; columns: number; bits: QuantizedBits; input: Float32Array },
): Promise<Float32Array> {
  const { rows, columns, bits, input } = shape;
  const dataFile = `weights-${bits}.bin`;
  const scalesAt = Math.ceil(packed.length / 4096) * 4096;
  const data = new Uint8Array(scalesAt + scales.byteLength);
  data.set(packed);
  data.set(new Uint8Array(scales.buffer), scalesAt);
  writeFileSync(join(directory, dataFile), data);
  const graph = new GraphBuilder(dataFile);
  const blocks = blocksPerRow(columns);
  const x = graph.input("x", "float32", ["T", columns]);
  const weight = graph.external("w", "uint8", [rows, blocks, packedRowBytes(columns, bits) / blocks], {
    offset: 0,
    length: packed.length,
  });
  const scale = graph.external("s", "float32", [rows * blocks], {
    offset: scalesAt,
    length: scales.byteLength,
  });
  graph.contrib("MatMulNBits", [x, weight, scale], {
    outputs: ["y"],
    attributes: { K: columns, N: rows, bits, block_size: blockSize, accuracy_level: 4 },
  });
  graph.output("y", "float32", ["T", rows]);
  const modelPath = join(directory, `model-${bits}.onnx`);
  writeFileSync(modelPath, graph.finish());
  const session = await Session.open({ modelPath, threads: 1 });
  const { y } = await session.run({ x: floatTensor(input, [columns, columns]) });
  await session.close();
  return y!;
}
