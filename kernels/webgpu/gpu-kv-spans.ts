// Keys and values of consecutive tokens apart from any sequence, on the device: copied out of a sequence's own buffers
// and into another's, at any place.

import type { KvShape } from "../cpu/kv-arena.ts";
import { indexes } from "../cpu/kv-feeds.ts";
import { GraphBuilder } from "../onnx/graph-builder.ts";
import { type Feeds, int32Tensor } from "../session.ts";
import type { KvBuffers } from "./gpu-kv-moves.ts";
import type { BusCounter, GpuAllocator, GpuBuffer } from "./gpu-session.ts";
import { LazySession } from "./lazy-session.ts";

/** Each layer's keys [kvHeads, headDim, tokens], then its values [kvHeads, tokens, headDim]. */
export type KvSpan = { readonly buffers: readonly GpuBuffer[]; readonly tokens: number };

export class GpuKvSpans {
  readonly #shape: KvShape;
  readonly #allocator: GpuAllocator;
  readonly #writer: LazySession;
  readonly #reader: LazySession;

  constructor(shape: KvShape, allocator: GpuAllocator, bus: BusCounter) {
    this.#shape = shape;
    this.#allocator = allocator;
    this.#writer = new LazySession(() => ({ model: this.#writerGraph(), bus }));
    this.#reader = new LazySession(() => ({ model: this.#readerGraph(), bus }));
  }

  /** @param keyValues [layers * 2, kvHeads, tokens, headDim] */
  async upload(keyValues: Float32Array, tokens: number): Promise<KvSpan> {
    const { kvHeads, headDim } = this.#shape;
    const size = kvHeads * tokens * headDim;
    return this.#made(tokens, (piece) => {
      const rows = keyValues.subarray(piece * size, (piece + 1) * size);
      return this.#allocator.upload(piece % 2 === 0 ? transposed(rows, tokens, headDim) : rows);
    });
  }

  /** @returns a copy of `tokens` tokens of one sequence's buffers, from `first` on */
  async copyOut(from: KvBuffers, first: number, tokens: number): Promise<KvSpan> {
    const { kvHeads, headDim } = this.#shape;
    const span = await this.#made(tokens, () => this.#allocator.zeros(kvHeads * headDim * tokens));
    const feeds: Feeds = { places: places(first, tokens) };
    const into: Feeds = {};
    for (const [piece, buffer] of from.buffers.entries()) {
      feeds[`source.${piece}`] = buffer.view(this.#dims(piece, from.capacity));
      into[`copy.${piece}`] = span.buffers[piece]!.view(this.#dims(piece, tokens));
    }
    await (await this.#reader.get()).run(feeds, into);
    return span;
  }

  /** Writes a span over the places of one sequence's buffers from `first` on. */
  async copyIn({ buffers, tokens }: KvSpan, to: KvBuffers, first: number): Promise<void> {
    const feeds: Feeds = { places: places(first, tokens) };
    const into: Feeds = {};
    for (const [piece, buffer] of buffers.entries()) {
      const target = to.buffers[piece]!.view(this.#dims(piece, to.capacity));
      feeds[`source.${piece}`] = buffer.view(this.#dims(piece, tokens));
      feeds[`target.${piece}`] = target;
      into[`written.${piece}`] = target;
    }
    await (await this.#writer.get()).run(feeds, into);
  }

  async close(): Promise<void> {
    await this.#writer.close();
    await this.#reader.close();
  }

  async #made(tokens: number, make: (piece: number) => Promise<GpuBuffer>): Promise<KvSpan> {
    const buffers: GpuBuffer[] = [];
    const span = { buffers, tokens };
    try {
      for (let piece = 0; piece < this.#shape.layers * 2; piece++) buffers.push(await make(piece));
      return span;
    } catch (error) {
      disposeSpan(span);
      throw error;
    }
  }

  /** Places lie in the second dimension of both. */
  #dims<Tokens extends number | string>(piece: number, tokens: Tokens): (number | Tokens)[] {
    const { kvHeads, headDim } = this.#shape;
    return piece % 2 === 0 ? [kvHeads * headDim, tokens, 1] : [kvHeads, tokens, headDim];
  }

  #readerGraph(): Uint8Array {
    const graph = new GraphBuilder();
    graph.input("places", "int32", ["tokens"]);
    for (let piece = 0; piece < this.#shape.layers * 2; piece++) {
      graph.input(`source.${piece}`, "float32", this.#dims(piece, "capacity"));
      graph.node("Gather", [`source.${piece}`, "places"], {
        outputs: [`copy.${piece}`],
        attributes: { axis: 1 },
      });
      graph.output(`copy.${piece}`, "float32", this.#dims(piece, "tokens"));
    }
    return graph.finish();
  }

  #writerGraph(): Uint8Array {
    const graph = new GraphBuilder();
    graph.input("places", "int32", ["tokens"]);
    const [column] = graph.node("Reshape", ["places", graph.integers([1, -1, 1])]);
    for (let piece = 0; piece < this.#shape.layers * 2; piece++) {
      graph.input(`target.${piece}`, "float32", this.#dims(piece, "capacity"));
      graph.input(`source.${piece}`, "float32", this.#dims(piece, "tokens"));
      const [index] = graph.node("Expand", [column!, graph.integers(this.#dims<number>(piece, 1))]);
      graph.node("ScatterElements", [`target.${piece}`, index!, `source.${piece}`], {
        outputs: [`written.${piece}`],
        attributes: { axis: 1 },
      });
      graph.output(`written.${piece}`, "float32", this.#dims(piece, "capacity"));
    }
    return graph.finish();
  }
}

export function disposeSpan({ buffers }: KvSpan): void {
  for (const buffer of buffers) buffer.dispose();
}

function places(first: number, tokens: number): Feeds[string] {
  return int32Tensor(
    Int32Array.from(indexes(tokens), (token) => first + token),
    [tokens],
  );
}

/** [heads, tokens, width] as [heads, width, tokens] */
function transposed(rows: Float32Array, tokens: number, width: number): Float32Array {
  const out = new Float32Array(rows.length);
  for (let first = 0; first < rows.length; first += tokens * width) {
    for (let token = 0; token < tokens; token++) {
      for (let at = 0; at < width; at++) out[first + at * tokens + token] = rows[first + token * width + at]!;
    }
  }
  return out;
}
