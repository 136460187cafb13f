// How many bytes of larger JSON bodies may be in memory, all requests together, until what they hold is encoded: each is
// small by its own limit, and a flood of them is not. Each of several tenants has a part, so that none keeps the others
// out.

import { Allowance } from "../adapters-store/allowance.ts";
import { RequestError } from "./errors.ts";

export const bodyBudgetBytes = 16 * 1024 * 1024;

export class BodiesTooManyError extends RequestError {
  readonly retryAfterMs = 1000; // reading and encoding take less

  constructor() {
    super(
      "bodies_too_many",
      "the server is reading too many large requests at once, yours or in all; send it again later",
    );
  }
}

/** @param part of the whole that one tenant may have */
export function bodyAllowance(part: number): Allowance {
  return new Allowance({ inAll: bodyBudgetBytes, perOwner: bodyBudgetBytes * part });
}
