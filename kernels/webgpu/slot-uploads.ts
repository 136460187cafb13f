// Takes what an adapter keeps in slots over the bus. Ranks go as they lie on the host and become whole slots on the
// device: the host copies and rearranges nothing, and nobody waits for the device.

import { rankBlock } from "../cpu/adapter-bank.ts";
import { GraphBuilder } from "../onnx/graph-builder.ts";
import { floatTensor, indexTensor } from "../session.ts";
import { type BusCounter, type GpuAllocator, GpuBuffer, GpuMemoryError } from "./gpu-session.ts";
import type { SlotArray, SlotContents } from "./gpu-slot-kinds.ts";
import { LazySession } from "./lazy-session.ts";

type RankOrder = NonNullable<SlotArray["ranks"]>;

export class SlotUploads {
  readonly #allocator: GpuAllocator;
  readonly #sessions: Readonly<Record<RankOrder, LazySession>>;

  constructor(allocator: GpuAllocator, bus: BusCounter) {
    const session = (order: RankOrder) =>
      new LazySession(() => ({ model: rankGraph(order), bus, keptOutput: "slots" }));
    this.#allocator = allocator;
    this.#sessions = { first: session("first"), last: session("last") };
  }

  /**
   * @param slots that the contents make
   * @throws GpuMemoryError
   */
  async upload(array: SlotArray, data: SlotContents, slots: number): Promise<GpuBuffer> {
    try {
      return await this.#upload(array, data, slots);
    } catch (cause) {
      if (cause instanceof GpuMemoryError) throw cause;
      throw new GpuMemoryError(slots * array.width * Float32Array.BYTES_PER_ELEMENT, cause);
    }
  }

  async #upload({ ranks, width }: SlotArray, data: SlotContents, slots: number): Promise<GpuBuffer> {
    if (data instanceof Int32Array) return this.#allocator.uploadBytes(new Uint8Array(data.buffer));
    if (ranks === undefined) return this.#allocator.upload(data);
    if (data.length === 0) return this.#allocator.zeros(slots * width); // a layer that the adapter leaves alone
    const rowWidth = width / rankBlock;
    const rank = data.length / rowWidth;
    const made = await (await this.#sessions[ranks].get()).run({
      ranks: floatTensor(data, [rank, rowWidth]),
      pads: indexTensor([0, 0, slots * rankBlock - rank, 0], [4]),
      shape: indexTensor([slots, rankBlock, rowWidth], [3]),
    });
    return new GpuBuffer(made.slots!);
  }

  async close(): Promise<void> {
    for (const session of Object.values(this.#sessions)) await session.close();
  }
}

/** [rank, width] as [slots, rankBlock, width], or with the ranks last, filled up with zeros. */
function rankGraph(order: RankOrder): Uint8Array {
  const graph = new GraphBuilder();
  graph.input("ranks", "float32", ["rank", "width"]);
  graph.input("pads", "int64", [4]);
  graph.input("shape", "int64", [3]);
  const [whole] = graph.node("Pad", ["ranks", "pads"]);
  if (order === "first") graph.node("Reshape", [whole!, "shape"], { outputs: ["slots"] });
  else {
    const [blocks] = graph.node("Reshape", [whole!, "shape"]);
    graph.node("Transpose", [blocks!], { outputs: ["slots"], attributes: { perm: [0, 2, 1] } });
  }
  graph.output("slots", "float32", ["slots", "rows", "columns"]);
  return graph.finish();
}
