// What a failed run means, by what failed and by what the device still does.

import assert from "node:assert/strict";
import { test } from "node:test";
import { KvMemoryError } from "../errors.ts";
import { deviceFailure } from "./device-failure.ts";
import { type GpuAllocator, GpuMemoryError } from "./gpu-session.ts";

const mebibyte = 2 ** 20;
const none = new GpuMemoryError(32 * mebibyte, new Error("[Invalid Buffer (unlabeled)] is invalid"));
const huge = new GpuMemoryError(512 * mebibyte, new Error("[Invalid Buffer (unlabeled)] is invalid"));
const waiting = new KvMemoryError("kv_memory_exhausted", "no memory for keys and values", { cause: none });

async function codeOf(error: unknown, { isAlive = true, hasMemory = true } = {}): Promise<string | null> {
  const allocator = { isAlive: async () => isAlive, hasMemory: async () => hasMemory };
  return (await deviceFailure(error, allocator as unknown as GpuAllocator))?.code ?? null;
}

test("a call that never reached the device, or that failed on one that computes, ends nothing else", async () => {
  assert.equal(await codeOf(new RangeError("sequence a is not open"), { isAlive: false }), null);
  assert.equal(await codeOf(new Error("a shape does not fit")), null);
  assert.equal(await codeOf(new KvMemoryError("kv_memory_exhausted", "the budget is spent")), null);
});

test("a device that computes nothing any more is lost, whatever failed", async () => {
  for (const error of [new Error("fault"), none, waiting]) {
    assert.equal(await codeOf(error, { isAlive: false }), "device_lost");
  }
});

test("while memory is short it is waited for; where there is some, the runtime's pool is spoiled", async () => {
  for (const error of [none, waiting]) {
    assert.equal(await codeOf(error, { hasMemory: false }), null);
    assert.equal(await codeOf(error), "device_memory_spoiled");
  }
});

test("a buffer too large for the pool leaves nothing behind", async () => {
  assert.equal(await codeOf(huge), null);
});

test("one of the runtime's own buffers that failed is never got rid of", async () => {
  const error = new Error(
    "WebGPU validation failed. [Invalid Buffer (unlabeled)] is invalid due to a previous error.",
  );
  assert.equal(await codeOf(error, { hasMemory: false }), "device_memory_spoiled");
});
