// Frozen matrices on the device as they are stored: float32, or packed with their scales and widened there, by graphs,
// to the values that serving multiplies with. What the matrices are, it does not know.

import { GraphBuilder } from "../onnx/graph-builder.ts";
import type { PreparedMatrix } from "../prepare/layout.ts";
import { blockSize, blocksPerRow, type QuantizedBits } from "../prepare/quantize-blocks.ts";
import type { Feeds } from "../session.ts";
import type { PreparedWeights } from "../training/prepared-weights.ts";
import type { BusCounter, GpuAllocator, GpuBuffer } from "./gpu-session.ts";
import { LazySession } from "./lazy-session.ts";

/** Rows of a matrix; without scales they are float32. */
export type StoredRows = {
  readonly rows: number;
  readonly columns: number;
  readonly data: GpuBuffer;
  readonly quantized: { readonly scales: GpuBuffer; readonly bits: QuantizedBits } | null;
};

type HostRows = Pick<PreparedWeights, "quantizedRows" | "readRows">;

export class GpuMatrices {
  readonly #host: HostRows;
  readonly #allocator: GpuAllocator;
  readonly #bus: BusCounter;
  readonly #widening = new Map<string, LazySession>();

  constructor(host: HostRows, { allocator, bus }: { allocator: GpuAllocator; bus: BusCounter }) {
    this.#host = host;
    this.#allocator = allocator;
    this.#bus = bus;
  }

  /** Takes rows to the device, where they are the caller's. */
  async store(matrix: PreparedMatrix, firstRow = 0, rows = matrix.rows): Promise<StoredRows> {
    const { columns } = matrix;
    const stored = this.#host.quantizedRows(matrix, firstRow, rows);
    if (stored === null) {
      const floats = new Float32Array(rows * columns);
      this.#host.readRows(matrix, firstRow, floats);
      return { rows, columns, data: await this.#allocator.upload(floats), quantized: null };
    }
    const data = await this.#allocator.uploadBytes(stored.packed);
    const scales = await this.#allocator.upload(stored.scales);
    return { rows, columns, data, quantized: { scales, bits: stored.bits } };
  }

  /** @param place for [rows, columns] */
  async widen({ rows, columns, data, quantized }: StoredRows, place: GpuBuffer): Promise<void> {
    const { scales, bits } = quantized!;
    const session = await this.#wideningOf(columns, bits).get();
    const blocks = blocksPerRow(columns);
    const feeds: Feeds = {
      packed: data.bytes([rows, ...packedBlocks(columns, bits)]),
      scales: scales.view([rows, blocks, 1]),
    };
    await session.run(feeds, { widened: place.view([rows, columns]) });
  }

  async close(): Promise<void> {
    for (const session of this.#widening.values()) await session.close();
  }

  #wideningOf(columns: number, bits: QuantizedBits): LazySession {
    const key = `${columns} ${bits}`;
    const session =
      this.#widening.get(key) ??
      new LazySession(() => ({ model: wideningGraph(columns, bits), bus: this.#bus }));
    this.#widening.set(key, session);
    return session;
  }
}

export function disposeRows({ data, quantized }: StoredRows): void {
  data.dispose();
  quantized?.scales.dispose();
}

/** As fed: a reshape behind DequantizeLinear would be moved in front of it, where the provider reshapes no bytes. */
function packedBlocks(columns: number, bits: QuantizedBits): number[] {
  const blocks = blocksPerRow(columns);
  return bits === 8 ? [blocks, blockSize] : [blocks, blockSize / 2, 1];
}

/** (packed - zero point) scale, the zero point being the middle of the range. */
function wideningGraph(columns: number, bits: QuantizedBits): Uint8Array {
  const graph = new GraphBuilder();
  const node = (operator: string, inputs: readonly string[], attributes = {}) =>
    graph.node(operator, inputs, { attributes })[0]!;
  const blocks = blocksPerRow(columns);
  graph.input("packed", "uint8", ["rows", ...packedBlocks(columns, bits)]);
  graph.input("scales", "float32", ["rows", blocks, 1]);
  const bytes = node("DequantizeLinear", ["packed", graph.float(1)]); // the provider casts no bytes
  const values = bits === 8 ? bytes : node("Reshape", [nibbles(), graph.integers([0, blocks, blockSize])]);
  const centred = node("Sub", [values, graph.float(2 ** (bits - 1))]);
  const outputs = ["widened"];
  const inRows = graph.integers([0, blocks * blockSize]);
  const scaled = node("Mul", [centred, "scales"]);
  if (columns % blockSize === 0) graph.node("Reshape", [scaled, inRows], { outputs });
  else {
    // A row's last block is filled up with columns that the matrix does not have.
    const [first, end, axis] = [0, columns, 1].map((value) => graph.integers([value]));
    graph.node("Slice", [node("Reshape", [scaled, inRows]), first!, end!, axis!], { outputs });
  }
  graph.output("widened", "float32", ["rows", columns]);
  return graph.finish();

  /** [rows, blocks, blockSize / 2, 2], low nibble first. */
  function nibbles(): string {
    const high = node("Floor", [node("Mul", [bytes, graph.float(1 / 16)])]);
    const low = node("Sub", [bytes, node("Mul", [high, graph.float(16)])]);
    return node("Concat", [low, high], { axis: 3 });
  }
}
