// Reads the adapters that were given at the start into memory, so that nobody's first request waits for a disk. One
// after the other, behind whatever requests want, and only where there is room.

import { setTimeout as delay } from "node:timers/promises";
import type { AdapterResidency } from "../adapters-store/residency/residency.ts";
import type { Logger } from "./logger.ts";
import type { Readiness } from "./readiness.ts";
import type { ServedAdapter } from "./served-adapters.ts";

export type ReadAheadOptions = {
  readonly residency: Pick<AdapterResidency, "readAhead">;
  readonly readiness: Pick<Readiness<unknown>, "state">;
  readonly logger: Pick<Logger, "info" | "error">;
};

const busyPauseMs = 50; // until the next look

/** Ends when the server closes. Never rejects: what cannot be read is logged, and refused to whoever asks for it. */
export async function readAhead(
  adapters: readonly Pick<ServedAdapter, "id" | "version">[],
  options: ReadAheadOptions,
): Promise<void> {
  const { logger, readiness } = options;
  for (const [index, { id, version }] of adapters.entries()) {
    try {
      const outcome = await readOne(version, options);
      if (outcome === "closing") return;
      if (outcome === "full") {
        const left = adapters.length - index;
        return logger.info({ left }, "memory is full: other adapters are read when they are asked for");
      }
    } catch (err) {
      if (isOver(readiness)) return;
      logger.error({ err, adapter: id }, "an adapter could not be read ahead");
    }
  }
}

async function readOne(version: string, { residency, readiness }: ReadAheadOptions) {
  while (!isOver(readiness)) {
    if (readiness.state.name === "ready") {
      const startMs = performance.now();
      const outcome = await residency.readAhead(version);
      // As long a pause as the reading took leaves half of a core's time to what is running.
      if (outcome === "read") await delay(performance.now() - startMs, undefined, { ref: false });
      if (outcome !== "busy") return outcome;
    }
    await delay(busyPauseMs, undefined, { ref: false });
  }
  return "closing";
}

function isOver({ state }: ReadAheadOptions["readiness"]): boolean {
  return state.name === "closing" || state.name === "failed";
}
