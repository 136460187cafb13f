// How many tokens of an answer are reserved: all that it may have, or, where its request does not say how many, what
// usual answers take, and more as it is written.

import { RateLimitError } from "../tenancy/errors.ts";
import type { RateLimits, Reservation } from "../tenancy/rate-limits.ts";
import type { Tenant } from "../tenancy/tenant.ts";

export type TokenQuotaOptions = {
  readonly choices: number;
  readonly mostTokens: number; // of all choices together
  readonly isOpenEnded: boolean; // nobody asked for so many
};

/** Of what an open-ended answer may have; reserving all of it would refuse what nearly always fits. */
const usualShare = 1 / 4;
const growthTokens = 256;

export class TokenQuota {
  readonly #options: TokenQuotaOptions;
  #reservation: Reservation | null = null;
  #reserved = 0;
  #used = 0;

  constructor(options: TokenQuotaOptions) {
    this.#options = options;
  }

  /** Throws RateLimitError. */
  begin(
    promptTokens: number,
    tenant: Tenant,
    limits: Pick<RateLimits, "reserve" | "mostAtOnce">,
  ): Reservation {
    const { choices, mostTokens, isOpenEnded } = this.#options;
    const usual = Math.max(choices * growthTokens, Math.ceil(mostTokens * usualShare));
    const fitting = Math.min(usual, limits.mostAtOnce(tenant) - promptTokens);
    this.#reserved = isOpenEnded ? Math.min(mostTokens, Math.max(choices, fitting)) : mostTokens;
    this.#reservation = limits.reserve(tenant, promptTokens + this.#reserved);
    return this.#reservation;
  }

  /** One more token of a choice; false where the tenant has none left, and the choice is to end. */
  take(): boolean {
    const { choices, mostTokens } = this.#options;
    // Each choice may still draw the token that ends it, which nobody asks for.
    while (this.#reserved < mostTokens && this.#used + choices > this.#reserved) {
      const by = Math.min(growthTokens, mostTokens - this.#reserved);
      try {
        this.#reservation?.grow(by);
      } catch (error) {
        if (error instanceof RateLimitError) return false;
        throw error;
      }
      this.#reserved += by;
    }
    this.#used++;
    return true;
  }
}
