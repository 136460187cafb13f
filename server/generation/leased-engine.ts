// The engine as a request sees it whose adapter may not be in memory: it is brought there first, and kept there until
// the engine is done with the request. It is kept also while the request waits for a row: what a tenant may keep so is
// the residency's business.

import type { Engine } from "../../scheduler/engine.ts";
import { versionsOf } from "../../scheduler/members.ts";
import { RequestError } from "../errors.ts";
import { linkedController } from "../linked-controller.ts";
import type { TenantAdapters } from "../served-adapters.ts";

class AdapterTimeoutError extends RequestError {
  constructor() {
    super(
      "request_timed_out",
      "the request's timeout_ms was over before its adapter was in memory; raise it, or send the request again: the adapter may be there by then",
    );
  }
}

/** @param arrivedMs of the request, by performance.now(): its timeout runs from there */
export function leasedEngine(
  engine: Pick<Engine, "generate">,
  adapters: Pick<TenantAdapters, "lease">,
  arrivedMs: number,
): Pick<Engine, "generate"> {
  return {
    async *generate(request, signal) {
      const { timeoutMs } = request;
      const leftMs = () =>
        timeoutMs === null ? null : Math.max(1, arrivedMs + timeoutMs - performance.now());
      const versions = versionsOf(request);
      const lease =
        versions.length === 0
          ? null
          : await within(leftMs(), signal, (until) => adapters.lease(versions, until));
      try {
        yield* engine.generate({ ...request, timeoutMs: leftMs() }, signal);
      } finally {
        lease?.release();
      }
    },
  };
}

/** Throws AdapterTimeoutError. */
async function within<Result>(
  ms: number | null,
  signal: AbortSignal | undefined,
  wait: (signal: AbortSignal | undefined) => Promise<Result>,
): Promise<Result> {
  if (ms === null) return wait(signal);
  const waiting = signal === undefined ? new AbortController() : linkedController(signal);
  const timer = setTimeout(() => waiting.abort(new AdapterTimeoutError()), ms);
  try {
    return await wait(waiting.signal);
  } finally {
    clearTimeout(timer);
  }
}
