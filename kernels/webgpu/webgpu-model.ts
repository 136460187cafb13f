// A base model on the device: its session, its embedding table, and what all buffers are made with. Weights go to
// the device once, when the session opens.

import { type BaseModelOptions, type PreparedBase, prepareBase, writeGraph } from "../base-model.ts";
import { CotenantError } from "../errors.ts";
import { dataFileName } from "../prepare/prepare-weights.ts";
import { floatTensor } from "../session.ts";
import { RowWriter } from "./gpu-copies.ts";
import { GpuKvMoves } from "./gpu-kv-moves.ts";
import { GpuKvSpans } from "./gpu-kv-spans.ts";
import { GpuLogits } from "./gpu-logits.ts";
import { type BusCounter, GpuAllocator, type GpuBuffer, GpuSession } from "./gpu-session.ts";
import { GrowingSession } from "./growing-session.ts";
import { buildWebgpuGraph } from "./webgpu-graph.ts";

const uploadedFloats = 1 << 22; // of a table, at once

export type WebgpuModel = {
  readonly base: PreparedBase;
  readonly bus: BusCounter;
  readonly session: GrowingSession;
  readonly allocator: GpuAllocator;
  readonly kvMoves: GpuKvMoves;
  readonly kvSpans: GpuKvSpans;
  readonly logits: GpuLogits;
  readonly embeddings: GpuBuffer; // [vocab, hidden]
  close(): Promise<void>;
};

/** @throws CotenantError `device_not_available` */
export async function openWebgpuModel(options: BaseModelOptions): Promise<WebgpuModel> {
  const base = await prepareBase(options);
  const { config, layout } = base;
  const bus: BusCounter = { bytes: 0, runMs: 0 };
  const allocator = await GpuAllocator.open(bus).catch((cause: unknown) => {
    throw notAvailable(cause);
  });
  const session = await GrowingSession.open((features) => {
    const graph = buildWebgpuGraph({ config, layout, dataFile: dataFileName, features });
    return GpuSession.open({ model: writeGraph(base, graph), bus });
  });
  const kvMoves = await GpuKvMoves.open(config, allocator, bus);
  const kvSpans = new GpuKvSpans(config, allocator, bus);
  const logits = await GpuLogits.open(config.vocabSize, allocator, bus);
  const embeddings = await uploadEmbeddings(base, { allocator, bus });
  return {
    base,
    bus,
    session,
    allocator,
    kvMoves,
    kvSpans,
    logits,
    embeddings,
    async close() {
      embeddings.dispose();
      await session.close();
      await kvMoves.close();
      await kvSpans.close();
      await logits.close();
      await allocator.close();
    },
  };
}

function notAvailable(cause: unknown): CotenantError {
  const reason = cause instanceof Error ? cause.message.replaceAll(/\s+/g, " ").trim() : String(cause);
  return new CotenantError(
    "device_not_available",
    `WebGPU does not open: ${reason}; install the GPU's driver (on Linux its Vulkan one, and the loader libvulkan1), or serve with --device cpu`,
    { cause },
  );
}

/** Widened to float32 and scaled as the family asks. */
async function uploadEmbeddings(
  { config, embeddings }: PreparedBase,
  { allocator, bus }: { readonly allocator: GpuAllocator; readonly bus: BusCounter },
): Promise<GpuBuffer> {
  const { vocabSize, hiddenSize } = config;
  const table = await allocator.zeros(vocabSize * hiddenSize);
  const target = table.view([vocabSize, hiddenSize]);
  const writer = await RowWriter.open([hiddenSize], bus);
  const rowsAtOnce = Math.max(1, Math.floor(uploadedFloats / hiddenSize));
  for (let first = 0; first < vocabSize; first += rowsAtOnce) {
    const ids = Array.from({ length: Math.min(rowsAtOnce, vocabSize - first) }, (_, row) => first + row);
    const rows = new Float32Array(ids.length * hiddenSize);
    embeddings.lookup(ids, rows);
    await writer.write([{ target, source: floatTensor(rows, [ids.length, hiddenSize]) }], ids);
  }
  await writer.close();
  return table;
}
