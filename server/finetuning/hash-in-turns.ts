// SHA-256 of what may be a hundred megabytes, in slices with turns of the event loop between them: the thread answers
// requests meanwhile.

import { createHash } from "node:crypto";
import { setImmediate as nextTurn } from "node:timers/promises";

const sliceBytes = 2 ** 20;

/** Of all parts one after another. */
export async function hashInTurns(parts: readonly Uint8Array[]): Promise<Buffer> {
  const hash = createHash("sha256");
  for (const bytes of parts) {
    for (let at = 0; at < bytes.length; at += sliceBytes) {
      hash.update(bytes.subarray(at, at + sliceBytes));
      if (bytes.length > sliceBytes) await nextTurn();
    }
  }
  return hash.digest();
}
