// How far V8's heaps may grow before they are collected.

import { setFlagsFromString } from "node:v8";

/**
 * By itself V8 lets a heap of 30 MB grow fourfold first, and a server at a few requests a second gets there after
 * hours: until then its memory looks like a leak. A collection costs some 50 ms of the HTTP thread in steps of at
 * most 25, every thousand requests (docs/experiments.md). Holds for the threads that start later, too.
 */
export function collectOften(): void {
  setFlagsFromString("--heap-growing-percent=20");
}
