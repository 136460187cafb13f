// The device-side copies of keys and values: a sequence's own buffers into a row of an arena, back, and to a larger
// capacity. Buffers come as one list, each layer's keys and then its values.

import type { KvShape } from "../cpu/kv-arena.ts";
import { KvMemoryError } from "../errors.ts";
import type { Feeds } from "../session.ts";
import { RowReader, RowWidener, RowWriter } from "./gpu-copies.ts";
import type { BusCounter, GpuAllocator, GpuBuffer } from "./gpu-session.ts";

/** Keys and values of `rows` sequences with room for `capacity` tokens each. */
export type KvBuffers = {
  readonly buffers: readonly GpuBuffer[];
  readonly rows: number;
  readonly capacity: number;
};

export class GpuKvMoves {
  readonly #shape: KvShape;
  readonly #allocator: GpuAllocator;
  readonly #writer: RowWriter;
  readonly #reader: RowReader;
  readonly #widener: RowWidener;

  private constructor(
    { shape, allocator }: { readonly shape: KvShape; readonly allocator: GpuAllocator },
    copies: { readonly writer: RowWriter; readonly reader: RowReader; readonly widener: RowWidener },
  ) {
    this.#shape = shape;
    this.#allocator = allocator;
    this.#writer = copies.writer;
    this.#reader = copies.reader;
    this.#widener = copies.widener;
  }

  static async open(shape: KvShape, allocator: GpuAllocator, bus: BusCounter): Promise<GpuKvMoves> {
    const pieces = shape.layers * 2;
    return new GpuKvMoves(
      { shape, allocator },
      {
        writer: await RowWriter.open(Array<null>(pieces).fill(null), bus),
        reader: await RowReader.open(pieces, bus),
        widener: await RowWidener.open(shape.layers, bus),
      },
    );
  }

  /** @throws KvMemoryError `kv_memory_exhausted` */
  async allocate(rows: number, capacity: number): Promise<KvBuffers> {
    const buffers: GpuBuffer[] = [];
    try {
      for (let piece = 0; piece < this.#shape.layers * 2; piece++) {
        buffers.push(await this.#allocator.zeros(rows * this.#width(capacity)));
      }
    } catch (cause) {
      for (const buffer of buffers) buffer.dispose();
      const message = `the device has no memory left for keys and values of ${rows} x ${capacity} more tokens; wait for a sequence to finish, or lower --max-kv-bytes or --max-rows`;
      throw new KvMemoryError("kv_memory_exhausted", message, { cause });
    }
    return { buffers, rows, capacity };
  }

  /** Copies all rows of `from`, whole, over those of `to` from `row` on. Capacities are the same. */
  async write(from: KvBuffers, to: KvBuffers, row: number): Promise<void> {
    const places = Array.from({ length: from.rows }, (_, index) => row + index);
    await this.#writer.write(this.#pairs(from, to), places);
  }

  /** @returns a copy of one row */
  async read(from: KvBuffers, row: number): Promise<KvBuffers> {
    const own = await this.allocate(1, from.capacity);
    await this.#reader.read(this.#pairs(from, own), row);
    return own;
  }

  /** @returns a copy of one sequence's buffers with more room */
  async widen(from: KvBuffers, capacity: number): Promise<KvBuffers> {
    const to = await this.allocate(1, capacity);
    const { kvHeads, headDim } = this.#shape;
    for (const [kind, rows, width] of [
      [0, kvHeads * headDim, 1],
      [1, kvHeads, headDim],
    ] as const) {
      const ofKind = ({ buffers, capacity: places }: KvBuffers): Feeds[string][] =>
        buffers.filter((_, piece) => piece % 2 === kind).map((buffer) => buffer.view([rows, places * width]));
      const targets = ofKind(to);
      await this.#widener.widen(ofKind(from).map((source, layer) => ({ source, target: targets[layer]! })));
    }
    return to;
  }

  async close(): Promise<void> {
    await this.#writer.close();
    await this.#reader.close();
    await this.#widener.close();
  }

  #pairs(from: KvBuffers, to: KvBuffers) {
    const view = ({ buffers, rows, capacity }: KvBuffers, piece: number) =>
      buffers[piece]!.view([rows, this.#width(capacity)]);
    return from.buffers.map((_, piece) => ({ source: view(from, piece), target: view(to, piece) }));
  }

  #width(capacity: number): number {
    const { kvHeads, headDim } = this.#shape;
    return kvHeads * headDim * capacity;
  }
}

export function disposeKv({ buffers }: KvBuffers): void {
  for (const buffer of buffers) buffer.dispose();
}
