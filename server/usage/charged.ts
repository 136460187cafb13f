// Charges a generation, or other work on prompts, to its tenant, however it ends: tokens are reserved when it begins
// (an open-ended answer's as it goes on), and settled and written into the ledger when it is over. A generation counts as its answer's `usage` does.

import { CotenantError } from "../../kernels/errors.ts";
import type { RateLimits } from "../tenancy/rate-limits.ts";
import type { Tenant } from "../tenancy/tenant.ts";
import type { UsageLedger } from "./ledger.ts";
import { TokenQuota } from "./token-quota.ts";

export type Charge = {
  readonly tenant: Tenant;
  readonly model: string;
  readonly adapterVersion: string | null;
  readonly promptTokens: number;
  readonly quota: TokenQuota; // of the completion
  readonly completionTokens: { readonly total: number }; // grows as the pieces are read
  readonly cachedPromptTokens: { readonly total: number }; // likewise
  readonly signal: AbortSignal; // aborted when the client is gone
};

export type ChargedTo = {
  readonly limits: Pick<RateLimits, "reserve" | "mostAtOnce">;
  readonly usage: Pick<UsageLedger, "record">;
};

/** Throws RateLimitError before anything is generated. */
export async function* charged<Piece>(
  pieces: AsyncIterable<Piece>,
  charge: Charge,
  to: ChargedTo,
): AsyncGenerator<Piece> {
  const end = begin(charge, to);
  let isRefused = false;
  try {
    yield* pieces;
  } catch (error) {
    // A client that leaves before the first token pays its prompt; what the engine refuses costs nothing.
    // Who runs out of time has been served: its prompt was read.
    const isTimeout = error instanceof CotenantError && error.code === "request_timed_out";
    isRefused = charge.completionTokens.total === 0 && !charge.signal.aborted && !isTimeout;
    throw error;
  } finally {
    end(isRefused);
  }
}

export type PromptCharge = Omit<Charge, "quota" | "completionTokens" | "cachedPromptTokens">;

/** Work that reads prompts and writes nothing. Throws RateLimitError before it begins. */
export async function chargedForPrompts<Result>(
  work: () => Promise<Result>,
  charge: PromptCharge,
  to: ChargedTo,
): Promise<Result> {
  const none = { total: 0 };
  const quota = new TokenQuota({ choices: 0, mostTokens: 0, isOpenEnded: false });
  const end = begin({ ...charge, quota, completionTokens: none, cachedPromptTokens: none }, to);
  let isRefused = false;
  try {
    return await work();
  } catch (error) {
    isRefused = !charge.signal.aborted;
    throw error;
  } finally {
    end(isRefused);
  }
}

/** Reserves; what it returns settles, and records what was not refused. */
function begin(charge: Charge, { limits, usage }: ChargedTo): (isRefused: boolean) => void {
  const { tenant, model, adapterVersion, promptTokens, completionTokens, cachedPromptTokens } = charge;
  const reservation = charge.quota.begin(promptTokens, tenant, limits);
  return (isRefused) => {
    reservation.settle(isRefused ? 0 : promptTokens + completionTokens.total);
    if (isRefused) return;
    usage.record({
      tenantId: tenant.id,
      model,
      adapterVersion,
      promptTokens,
      cachedPromptTokens: cachedPromptTokens.total,
      completionTokens: completionTokens.total,
    });
  };
}
