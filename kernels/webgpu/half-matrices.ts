// A base's matrices as float16 in buffers of the device, each there once: serving's graph has them as inputs and widens
// each in front of its product, training widens them layer by layer. Which devices compute with float16, the device says.

import { open } from "node:fs/promises";
import type { PreparedBase } from "../base-model.ts";
import { CotenantError } from "../errors.ts";
import { elementTypes, GraphBuilder } from "../onnx/graph-builder.ts";
import type { PreparedLayout, PreparedMatrix } from "../prepare/layout.ts";
import type { Feeds } from "../session.ts";
import { type BusCounter, type GpuAllocator, type GpuBuffer, GpuSession } from "./gpu-session.ts";

/** By name; empty where the base is of another encoding. */
export type HalfMatrices = ReadonlyMap<string, GpuBuffer>;

/** Whoever asks disposes of them. */
export async function uploadHalves(
  { layout, dataPath }: Pick<PreparedBase, "layout" | "dataPath">,
  allocator: GpuAllocator,
): Promise<HalfMatrices> {
  const uploaded = new Map<string, GpuBuffer>();
  const matrices = halfMatrices(layout);
  const wholeWords = ({ data }: PreparedMatrix) => Math.ceil(data.length / 4) * 4;
  const room = new Uint8Array(Math.max(0, ...matrices.map(wholeWords)));
  await using file = await open(dataPath);
  try {
    for (const matrix of matrices) {
      await readWhole(file, room.subarray(0, matrix.data.length), matrix.data.offset);
      uploaded.set(matrix.name, await allocator.uploadBytes(room.subarray(0, wholeWords(matrix))));
    }
    return uploaded;
  } catch (error) {
    disposeHalves(uploaded);
    throw error;
  }
}

export function disposeHalves(halves: HalfMatrices): void {
  for (const buffer of halves.values()) buffer.dispose();
}

/** What serving's graph reads of them in every run. */
export function halfFeeds(layout: PreparedLayout, halves: HalfMatrices): Feeds {
  return Object.fromEntries(
    halfMatrices(layout).map(({ name, rows, columns }) => [name, halves.get(name)!.halves([rows, columns])]),
  );
}

/** Of the layers that are there: a shortened layout lists the matrices of all. */
function halfMatrices({ layers, head }: PreparedLayout): PreparedMatrix[] {
  const matrices = layers.flatMap(({ qkv, o, gate, up, down }) => [qkv, o, gate, up, down]);
  return [...matrices, head].filter(({ encoding }) => encoding === "float16");
}

type ReadFile = Awaited<ReturnType<typeof open>>;

async function readWhole(file: ReadFile, out: Uint8Array, position: number): Promise<void> {
  let done = 0;
  while (done < out.length) {
    const { bytesRead } = await file.read(out, done, out.length - done, position + done);
    if (bytesRead === 0) throw new RangeError(`the prepared weights end at byte ${position + done}`);
    done += bytesRead;
  }
}

/** @param reason why there are none */
export function halvesRefusal(reason: string): CotenantError {
  return new CotenantError(
    "float16_not_available",
    `--quantize f16 needs a GPU whose driver offers WebGPU 16-bit floats (shader-f16): ${reason}; serve with --quantize int8, which takes half of the memory that f16 does, or with none`,
  );
}

/** Whether the device's driver offers float16 (WebGPU's shader-f16). */
export async function offersHalves(allocator: GpuAllocator, bus: BusCounter): Promise<boolean> {
  const graph = new GraphBuilder();
  graph.input("half", "float16", [1]);
  graph.node("Cast", ["half"], { outputs: ["value"], attributes: { to: elementTypes.float32 } });
  graph.output("value", "float32", [1]);
  const one = await allocator.uploadBytes(Uint8Array.of(0, 0x3c, 0, 0));
  const session = await GpuSession.open({ model: graph.finish(), bus });
  try {
    const { value } = await session.run({ half: one.halves([1]) });
    return value!.data[0] === 1;
  } catch {
    return false;
  } finally {
    await session.close();
    one.dispose();
  }
}
