// What a failed run says of the device: whether it goes on, is gone, or has to be opened anew. Knows no sequences.

import { CotenantError } from "../errors.ts";
import { type GpuAllocator, GpuMemoryError } from "./gpu-session.ts";

/** @returns what ends the device; null where only the run failed */
export async function deviceFailure(error: unknown, allocator: GpuAllocator): Promise<CotenantError | null> {
  if (error instanceof RangeError) return null; // never reached the device
  if (!(await allocator.isAlive())) return failure("device_lost", lost, error);
  return (await isSpoiled(error, allocator)) ? failure("device_memory_spoiled", spoiled, error) : null;
}

/**
 * The runtime keeps a buffer that the device had no memory for, and gives it to whoever next wants one of its size,
 * also when there is memory again: only a new device has none of these. A buffer of our own that fails while a large
 * one can be had is such a one; while none can be had, memory is short, and waiting for some may help. What a run
 * needs in between is asked for by the runtime, of sizes that we do not know.
 */
async function isSpoiled(error: unknown, allocator: GpuAllocator): Promise<boolean> {
  const cause = error instanceof Error && error.cause instanceof GpuMemoryError ? error.cause : error;
  if (cause instanceof GpuMemoryError) return cause.isPooled && (await allocator.hasMemory());
  return cause instanceof Error && cause.message.includes("[Invalid Buffer");
}

const lost =
  "the WebGPU device was lost with everything on it; look for its driver in the system's log. The engine starts anew";
const spoiled =
  "the WebGPU device had run out of memory, and the runtime does not get over it; lower --max-kv-bytes, --max-rows or --max-context. The engine starts anew";

function failure(code: string, message: string, cause: unknown): CotenantError {
  return new CotenantError(code, message, { cause });
}
