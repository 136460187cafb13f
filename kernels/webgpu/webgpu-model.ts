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
import {
  disposeHalves,
  type HalfMatrices,
  halvesRefusal,
  offersHalves,
  uploadHalves,
} from "./half-matrices.ts";
import { buildWebgpuGraph } from "./webgpu-graph.ts";

const uploadedFloats = 1 << 22; // of a table, at once

/** What sessions of one checkpoint share on the device. */
export type WebgpuParts = {
  readonly bus: BusCounter;
  readonly allocator: GpuAllocator;
  readonly logits: GpuLogits;
  readonly embeddings: GpuBuffer; // [vocab, hidden]
};

export type WebgpuModel = WebgpuParts & {
  readonly base: PreparedBase;
  readonly session: GrowingSession;
  readonly kvMoves: GpuKvMoves;
  readonly kvSpans: GpuKvSpans;
  readonly halves: HalfMatrices; // inputs of the session, and what training widens
  close(): Promise<void>;
};

/** Rejects where the device is not to serve the checkpoint. */
export type CheckDevice = (base: PreparedBase, parts: WebgpuParts) => Promise<void>;

/**
 * @param check is called before the model's own weights go to the device
 * @throws CotenantError `device_not_available`, `float16_not_available`
 */
export async function openWebgpuModel(
  options: BaseModelOptions,
  check: CheckDevice = async () => {},
): Promise<WebgpuModel> {
  await using closing = new AsyncDisposableStack();
  const device = await openAllocator(options, closing);
  const base = await prepareBase(options);
  const parts = await openParts(base, device, closing);
  await check(base, parts);
  const model = await openOnDevice(base, parts);
  const shared = closing.move();
  return {
    ...model,
    async close() {
      await model.close();
      await shared.disposeAsync();
    },
  };
}

/** Of a base whose embeddings are among the parts; closing it leaves them. */
export async function openOnDevice(base: PreparedBase, parts: WebgpuParts): Promise<WebgpuModel> {
  const { config, layout } = base;
  const { bus, allocator } = parts;
  const halves = await uploadHalves(base, allocator);
  const session = await GrowingSession.open((features) => {
    const graph = buildWebgpuGraph({ config, layout, dataFile: dataFileName, features });
    return GpuSession.open({ model: writeGraph(base, graph), bus });
  });
  const kvMoves = await GpuKvMoves.open(config, allocator, bus);
  const kvSpans = new GpuKvSpans(config, allocator, bus);
  return {
    ...parts,
    base,
    session,
    kvMoves,
    kvSpans,
    halves,
    async close() {
      await session.close();
      disposeHalves(halves);
      await kvMoves.close();
      await kvSpans.close();
    },
  };
}

type Device = Pick<WebgpuParts, "bus" | "allocator">;

/** Before anything of the checkpoint is read. */
async function openAllocator({ encoding }: BaseModelOptions, closing: AsyncDisposableStack): Promise<Device> {
  const bus: BusCounter = { bytes: 0, runMs: 0 };
  const allocator = await GpuAllocator.open(bus).catch(failOpening);
  closing.defer(() => allocator.close());
  if (encoding === "float16" && !(await offersHalves(allocator, bus))) {
    throw halvesRefusal("the device that WebGPU takes has none");
  }
  return { bus, allocator };
}

async function openParts(
  base: PreparedBase,
  { bus, allocator }: Device,
  closing: AsyncDisposableStack,
): Promise<WebgpuParts> {
  const logits = await GpuLogits.open(base.config.vocabSize, allocator, bus);
  closing.defer(() => logits.close());
  const embeddings = await uploadEmbeddings(base, { allocator, bus });
  closing.defer(() => embeddings.dispose());
  return { bus, allocator, logits, embeddings };
}

function failOpening(cause: unknown): never {
  const reason = cause instanceof Error ? cause.message.replaceAll(/\s+/g, " ").trim() : String(cause);
  throw new CotenantError(
    "device_not_available",
    `WebGPU does not open: ${reason}; install the GPU's driver (on Linux its Vulkan one, and the loader libvulkan1), or serve with --device cpu`,
    { cause },
  );
}

/** Widened to float32 and scaled as the family asks. */
async function uploadEmbeddings(
  { config, embeddings }: PreparedBase,
  { allocator, bus }: Device,
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
