// The engine as a request sees it whose adapter may not be in memory: it is brought there first, and kept there until
// the engine is done with the request. It is kept also while the request waits for a row: what a tenant may keep so is
// the residency's business.

import type { Engine } from "../../scheduler/engine.ts";
import { versionsOf } from "../../scheduler/members.ts";
import type { TenantAdapters } from "../served-adapters.ts";

export function leasedEngine(
  engine: Pick<Engine, "generate">,
  adapters: Pick<TenantAdapters, "lease">,
): Pick<Engine, "generate"> {
  return {
    async *generate(request, signal) {
      const versions = versionsOf(request);
      const lease = versions.length === 0 ? null : await adapters.lease(versions, signal);
      try {
        yield* engine.generate(request, signal);
      } finally {
        lease?.release();
      }
    },
  };
}
