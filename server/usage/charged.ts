// Charges a generation to its tenant, however it ends: tokens are reserved when its first piece is asked for, and
// settled and written into the ledger when it is over. Counts as the answer's `usage` does.

import type { RateLimits } from "../tenancy/rate-limits.ts";
import type { Tenant } from "../tenancy/tenant.ts";
import type { UsageLedger } from "./ledger.ts";

export type Charge = {
  readonly tenant: Tenant;
  readonly model: string;
  readonly adapterVersion: string | null;
  readonly promptTokens: number;
  readonly mostCompletionTokens: number;
  readonly completionTokens: { readonly total: number }; // grows as the pieces are read
  readonly cachedPromptTokens: { readonly total: number }; // likewise
  readonly signal: AbortSignal; // aborted when the client is gone
};

export type ChargedTo = {
  readonly limits: Pick<RateLimits, "reserve">;
  readonly usage: Pick<UsageLedger, "record">;
};

/** Throws RateLimitError before anything is generated. */
export async function* charged<Piece>(
  pieces: AsyncIterable<Piece>,
  charge: Charge,
  { limits, usage }: ChargedTo,
): AsyncGenerator<Piece> {
  const { tenant, model, adapterVersion, promptTokens, completionTokens, cachedPromptTokens } = charge;
  const reservation = limits.reserve(tenant, promptTokens + charge.mostCompletionTokens);
  let isRefused = false;
  try {
    yield* pieces;
  } catch (error) {
    // A client that leaves before the first token pays its prompt; what the engine refuses costs nothing.
    isRefused = completionTokens.total === 0 && !charge.signal.aborted;
    throw error;
  } finally {
    reservation.settle(isRefused ? 0 : promptTokens + completionTokens.total);
    if (!isRefused) {
      usage.record({
        tenantId: tenant.id,
        model,
        adapterVersion,
        promptTokens,
        cachedPromptTokens: cachedPromptTokens.total,
        completionTokens: completionTokens.total,
      });
    }
  }
}
