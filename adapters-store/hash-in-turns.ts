// SHA-256 of what may be a hundred megabytes, in slices with turns of the event loop between them: the thread answers
// requests meanwhile.

import { createHash } from "node:crypto";
import { setImmediate as nextTurn } from "node:timers/promises";

const sliceBytes = 2 ** 20;

/** Of all parts one after another. */
export async function hashInTurns(parts: Iterable<Uint8Array>): Promise<Buffer> {
  const hash = createHash("sha256");
  let beforeTurnBytes = sliceBytes;
  for (const bytes of parts) {
    for (let at = 0; at < bytes.length; ) {
      const slice = bytes.subarray(at, at + beforeTurnBytes);
      hash.update(slice);
      at += slice.length;
      beforeTurnBytes -= slice.length;
      if (beforeTurnBytes > 0) continue;
      await nextTurn();
      beforeTurnBytes = sliceBytes;
    }
  }
  return hash.digest();
}
