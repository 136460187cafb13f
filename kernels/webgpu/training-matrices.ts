// Frozen matrices on the device as they are stored: float32, or float16 or packed with their scales and widened there, by
// graphs, to the values that serving multiplies with. What the matrices are, it does not know.

import { elementTypes, GraphBuilder } from "../onnx/graph-builder.ts";
import type { PreparedMatrix } from "../prepare/layout.ts";
import { blockSize, blocksPerRow, type QuantizedBits } from "../prepare/quantize-blocks.ts";
import { type Feeds, indexTensor } from "../session.ts";
import type { PreparedWeights } from "../training/prepared-weights.ts";
import type { BusCounter, GpuAllocator, GpuBuffer } from "./gpu-session.ts";
import type { HalfMatrices } from "./half-matrices.ts";
import { LazySession } from "./lazy-session.ts";

/** Rows of a matrix. */
export type StoredRows = {
  readonly rows: number;
  readonly columns: number;
  readonly data: GpuBuffer;
} & Stored;

type Stored =
  | { readonly as: "float32" }
  | { readonly as: "float16"; readonly firstRow: number } // of a matrix in `data`, which is whoever's it was
  | { readonly as: "packed"; readonly scales: GpuBuffer; readonly bits: QuantizedBits };

type MatricesOptions = {
  readonly allocator: GpuAllocator;
  readonly bus: BusCounter;
  readonly halves: HalfMatrices;
};

type HostRows = Pick<PreparedWeights, "quantizedRows" | "readRows">;

export class GpuMatrices {
  readonly #host: HostRows;
  readonly #allocator: GpuAllocator;
  readonly #bus: BusCounter;
  readonly #halves: HalfMatrices;
  readonly #widening = new Map<string, LazySession>();

  constructor(host: HostRows, { allocator, bus, halves }: MatricesOptions) {
    this.#host = host;
    this.#allocator = allocator;
    this.#bus = bus;
    this.#halves = halves;
  }

  /** Takes rows to the device, where they are the caller's. */
  async store(matrix: PreparedMatrix, firstRow = 0, rows = matrix.rows): Promise<StoredRows> {
    const { columns } = matrix;
    const half = this.#halves.get(matrix.name);
    if (half !== undefined) return { rows, columns, data: half, as: "float16", firstRow };
    const stored = this.#host.quantizedRows(matrix, firstRow, rows);
    if (stored === null) {
      const floats = new Float32Array(rows * columns);
      this.#host.readRows(matrix, firstRow, floats);
      return { rows, columns, data: await this.#allocator.upload(floats), as: "float32" };
    }
    const data = await this.#allocator.uploadBytes(stored.packed);
    const scales = await this.#allocator.upload(stored.scales);
    return { rows, columns, data, as: "packed", scales, bits: stored.bits };
  }

  /** @param place for [rows, columns] */
  async widen(stored: StoredRows, place: GpuBuffer): Promise<void> {
    if (stored.as === "float32") throw new RangeError("these rows are as wide as they get");
    const session = await this.#wideningOf(stored).get();
    const feeds = stored.as === "float16" ? halfRows(stored) : packedRows(stored);
    await session.run(feeds, { widened: place.view([stored.rows, stored.columns]) });
  }

  async close(): Promise<void> {
    for (const session of this.#widening.values()) await session.close();
  }

  #wideningOf(stored: HalfRows | PackedRows): LazySession {
    const isHalf = stored.as === "float16";
    const key = isHalf ? `half ${stored.firstRow > 0}` : `${stored.columns} ${stored.bits}`;
    const model = () => (isHalf ? wideningHalves(stored.firstRow > 0) : wideningGraph(stored));
    const session = this.#widening.get(key) ?? new LazySession(() => ({ model: model(), bus: this.#bus }));
    this.#widening.set(key, session);
    return session;
  }
}

export function disposeRows(stored: StoredRows): void {
  if (stored.as === "float16") return;
  stored.data.dispose();
  if (stored.as === "packed") stored.scales.dispose();
}

type HalfRows = StoredRows & { readonly as: "float16" };
type PackedRows = StoredRows & { readonly as: "packed" };

/** A view begins where its buffer does, so that rows further on are cut out. */
function halfRows({ data, rows, columns, firstRow }: HalfRows): Feeds {
  const end = firstRow + rows;
  const halves = data.halves([end, columns]);
  if (firstRow === 0) return { halves };
  return { halves, first: indexTensor([firstRow], [1]), end: indexTensor([end], [1]) };
}

function wideningHalves(isPart: boolean): Uint8Array {
  const graph = new GraphBuilder();
  let rows = graph.input("halves", "float16", ["end", "columns"]);
  if (isPart) {
    const [first, end] = ["first", "end"].map((name) => graph.input(name, "int64", [1]));
    rows = graph.node("Slice", [rows, first!, end!, graph.integers([0])])[0]!;
  }
  graph.node("Cast", [rows], { outputs: ["widened"], attributes: { to: elementTypes.float32 } });
  graph.output("widened", "float32", ["rows", "columns"]);
  return graph.finish();
}

function packedRows({ data, rows, columns, scales, bits }: PackedRows): Feeds {
  return {
    packed: data.bytes([rows, ...packedBlocks(columns, bits)]),
    scales: scales.view([rows, blocksPerRow(columns), 1]),
  };
}

/** As fed: a reshape behind DequantizeLinear would be moved in front of it, where the provider reshapes no bytes. */
function packedBlocks(columns: number, bits: QuantizedBits): number[] {
  const blocks = blocksPerRow(columns);
  return bits === 8 ? [blocks, blockSize] : [blocks, blockSize / 2, 1];
}

/** (packed - zero point) scale, the zero point being the middle of the range. */
function wideningGraph({ columns, bits }: Pick<PackedRows, "columns" | "bits">): Uint8Array {
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
