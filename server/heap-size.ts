// How large V8's heaps may become before they are collected.

import { setFlagsFromString } from "node:v8";

/**
 * By itself V8 lets young objects take 128 MiB in each busy thread, and a heap of 30 MB grow fourfold before it collects
 * it. A server at a few requests a second gets there after hours: until then its memory looks like a leak. What
 * collecting earlier costs is in docs/experiments.md. For the threads that start later too; young objects of the first
 * one get twice the room.
 */
export function keepHeapsSmall(): void {
  setFlagsFromString("--max-semi-space-size=16"); // MiB
  setFlagsFromString("--heap-growing-percent=20");
}
