// Requests and tokens per minute and tokens per day, per tenant. Tokens are reserved before they are used, and settled
// at what was used, so that requests side by side cannot overdraw. Rows at once are the scheduler's: what is above them
// waits there.

import { RateLimitError } from "./errors.ts";
import { RateWindow } from "./rate-window.ts";
import type { Tenant } from "./tenant.ts";

export type RateLimitsOptions = {
  /** What the ledger knows of a tenant since then: a restart forgets nothing of the day. */
  readonly tokensSince: (tenantId: string, unixSeconds: number) => number;
  readonly nowMs?: () => number; // Unix time; default: the clock
};

export type Reservation = {
  /** Throws RateLimitError, and then stays as it is. */
  grow(by: number): void;
  /** Once, with the tokens that were used. */
  settle(used: number): void;
};

type Part = { readonly reserved: number; readonly settle: (used: number) => void };

type Use = {
  readonly requests: RateWindow;
  readonly tokens: RateWindow;
  day: { readonly start: number; tokens: number } | null; // start in Unix seconds
  reservedTokens: number;
};

const daySeconds = 86_400;
const busyRetryMs = 1000; // until a neighbour of the same tenant may have ended

export class RateLimits {
  readonly #tokensSince: RateLimitsOptions["tokensSince"];
  readonly #nowMs: () => number;
  readonly #byTenant = new Map<string, Use>();

  constructor({ tokensSince, nowMs = Date.now }: RateLimitsOptions) {
    this.#tokensSince = tokensSince;
    this.#nowMs = nowMs;
  }

  /** Counts one request. Throws RateLimitError, and then counts nothing. */
  takeRequest(tenant: Tenant): void {
    const limit = tenant.quotas.requestsPerMinute;
    if (limit === null) return;
    const { requests } = this.#useOf(tenant);
    const waitMs = requests.waitMs(1, limit, this.#nowMs());
    if (waitMs !== 0) throw new RateLimitError(`Rate limit reached: ${limit} requests per minute.`, waitMs);
    requests.spend(1);
  }

  /** Tokens that one request may reserve if there is no other; a limit that is null is infinite. */
  mostAtOnce({ quotas: { tokensPerMinute, tokensPerDay } }: Pick<Tenant, "quotas">): number {
    return Math.min(tokensPerMinute ?? Number.POSITIVE_INFINITY, tokensPerDay ?? Number.POSITIVE_INFINITY);
  }

  /** Throws RateLimitError, and then reserves nothing; else `settle` must follow. */
  reserve(tenant: Tenant, tokens: number): Reservation {
    const parts = [this.#reservePart(tenant, tokens)];
    return {
      grow: (by) => void parts.push(this.#reservePart(tenant, by)),
      settle: (used) => {
        let rest = used;
        for (const { reserved, settle } of parts) {
          const own = Math.min(reserved, rest);
          settle(own);
          rest -= own;
        }
      },
    };
  }

  /** Each counts from its own time on: what grows late was used late. */
  #reservePart(tenant: Tenant, reserved: number): Part {
    const use = this.#useOf(tenant);
    this.#checkDay(tenant, reserved);
    this.#checkMinute(tenant, reserved);
    use.reservedTokens += reserved;
    // Without a limit nothing would flow back.
    const settleMinute = tenant.quotas.tokensPerMinute === null ? null : use.tokens.reserve(reserved);
    return {
      reserved,
      settle: (used) => {
        use.reservedTokens -= reserved;
        settleMinute?.(used);
        if (use.day !== null) this.#dayOf(tenant).tokens += used;
      },
    };
  }

  /** OpenAI's x-ratelimit headers, for the limits that the tenant has. */
  headers({ id, quotas }: Tenant): [name: string, value: string][] {
    const use = this.#byTenant.get(id);
    const nowMs = this.#nowMs();
    const of = (kind: "requests" | "tokens", limit: number | null): [string, string][] => {
      if (limit === null) return [];
      const remaining = limit - (use?.[kind].spent(limit, nowMs) ?? 0);
      return [
        [`x-ratelimit-limit-${kind}`, String(limit)],
        [`x-ratelimit-remaining-${kind}`, String(Math.max(0, Math.floor(remaining)))],
        [`x-ratelimit-reset-${kind}`, formatDuration(use?.[kind].resetMs(limit, nowMs) ?? 0)],
      ];
    };
    return [...of("requests", quotas.requestsPerMinute), ...of("tokens", quotas.tokensPerMinute)];
  }

  #checkDay(tenant: Tenant, tokens: number): void {
    const limit = tenant.quotas.tokensPerDay;
    if (limit === null) return;
    if (tokens > limit) throw tooManyTokens(tokens, limit, "day");
    const day = this.#dayOf(tenant);
    if (day.tokens + this.#useOf(tenant).reservedTokens + tokens <= limit) return;
    const untilMidnightMs = (day.start + daySeconds) * 1000 - this.#nowMs();
    // What others under way have reserved may come back soon; what is used comes back at midnight.
    const retryAfterMs = day.tokens + tokens <= limit ? busyRetryMs : untilMidnightMs;
    throw new RateLimitError(
      `Rate limit reached: ${limit} tokens per day (UTC), ${day.tokens} used, ${tokens} requested.`,
      retryAfterMs,
    );
  }

  #checkMinute(tenant: Tenant, tokens: number): void {
    const limit = tenant.quotas.tokensPerMinute;
    if (limit === null) return;
    const waitMs = this.#useOf(tenant).tokens.waitMs(tokens, limit, this.#nowMs());
    if (waitMs === null) throw tooManyTokens(tokens, limit, "minute");
    if (waitMs === 0) return;
    throw new RateLimitError(`Rate limit reached: ${limit} tokens per minute, ${tokens} requested.`, waitMs);
  }

  #useOf({ id }: Tenant): Use {
    let use = this.#byTenant.get(id);
    if (use === undefined) {
      use = { requests: new RateWindow(), tokens: new RateWindow(), day: null, reservedTokens: 0 };
      this.#byTenant.set(id, use);
    }
    return use;
  }

  /** Today's; begins with what the ledger has, which outlives the process. */
  #dayOf(tenant: Tenant): NonNullable<Use["day"]> {
    const use = this.#useOf(tenant);
    const start = Math.floor(this.#nowMs() / 1000 / daySeconds) * daySeconds;
    if (use.day?.start !== start) use.day = { start, tokens: this.#tokensSince(tenant.id, start) };
    return use.day;
  }
}

function tooManyTokens(tokens: number, limit: number, period: string): RateLimitError {
  return new RateLimitError(
    `Request too large: it may use ${tokens} tokens and your limit is ${limit} per ${period}. Shorten the prompt, or send a lower max_tokens.`,
    null,
  );
}

/** As OpenAI writes them, which is as Go does: 6m0s, 1.5s, 20ms. */
function formatDuration(ms: number): string {
  if (ms < 1000) return `${Math.ceil(ms)}ms`;
  if (ms < 60_000) return `${Math.ceil(ms / 10) / 100}s`;
  const seconds = Math.ceil(ms / 1000);
  return `${Math.floor(seconds / 60)}m${seconds % 60}s`;
}
