// How much memory decoded adapters may take where --host-cache-bytes does not say.

import { totalmem } from "node:os";

/** A quarter of the machine's memory, or of what a container leaves of it. */
export function defaultHostCacheBytes(): number {
  const limitBytes = process.constrainedMemory(); // 0, or more than there is, where nothing limits the process
  const memoryBytes = limitBytes > 0 ? Math.min(limitBytes, totalmem()) : totalmem();
  return Math.floor(memoryBytes / 4);
}
