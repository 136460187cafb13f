// Matrices that the device widens, to the bit what the slow twin makes of them on the host.

import assert from "node:assert/strict";
import { test } from "node:test";
import { GraphBuilder } from "../../kernels/onnx/graph-builder.ts";
import type { PreparedMatrix } from "../../kernels/prepare/layout.ts";
import { blockSize, blocksPerRow, packedRowBytes } from "../../kernels/prepare/quantize-blocks.ts";
import { dequantizeRows } from "../../kernels/reference/dequantize-blocks.ts";
import { randomAt } from "../../kernels/sampling/random.ts";
import { GpuAllocator, GpuSession } from "../../kernels/webgpu/gpu-session.ts";
import { disposeRows, GpuMatrices } from "../../kernels/webgpu/training-matrices.ts";

const rows = 3;

test("whole blocks and filled ones", async () => {
  const bus = { bytes: 0, runMs: 0 };
  const allocator = await GpuAllocator.open(bus);
  const copy = new GraphBuilder();
  copy.input("x", "float32", ["n"]);
  copy.node("Mul", ["x", copy.float(1)], { outputs: ["y"] });
  copy.output("y", "float32", ["n"]);
  const reader = await GpuSession.open({ model: copy.finish(), bus });
  for (const columns of [blockSize, 2 * blockSize, blockSize + 8]) {
    for (const bits of [4, 8] as const) {
      const random = (length: number) => Float32Array.from({ length }, (_, at) => randomAt(bits, at));
      const packed = Uint8Array.from(random(rows * packedRowBytes(columns, bits)), (value) => value * 256);
      const scales = random(rows * blocksPerRow(columns));
      const matrices = new GpuMatrices(
        {
          quantizedRows: () => ({ packed, scales, bits }),
          readRows: () => assert.fail("these rows are quantized"),
        },
        { allocator, bus, halves: new Map() },
      );
      const stored = await matrices.store({ rows, columns } as PreparedMatrix);
      const place = await allocator.zeros(rows * columns);
      await matrices.widen(stored, place);
      const { y } = await reader.run({ x: place.view([rows * columns]) });
      const expected = Float32Array.from(dequantizeRows({ packed, scales }, columns, bits));
      assert.deepEqual(y!.data, expected, `${columns} columns of ${bits} bits`);
      disposeRows(stored);
      place.dispose();
      await matrices.close();
    }
  }
  await reader.close();
  await allocator.close();
});
