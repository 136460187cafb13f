// What can be wrong with keys, roles and quotas.

import { CotenantError } from "../../kernels/errors.ts";
import { RequestError } from "../errors.ts";

/** The keys file cannot be read, written or understood. */
export class KeysFileError extends CotenantError {
  constructor(path: string, problem: string, options?: ErrorOptions) {
    super("bad_keys_file", `keys file ${path}: ${problem}`, options);
  }
}

export class MissingKeyError extends RequestError {
  constructor() {
    super(
      "missing_api_key",
      "You didn't provide an API key. Send it in an Authorization header: Authorization: Bearer YOUR_KEY.",
    );
  }
}

/** Says the same of a malformed, an unknown, an expired and a revoked key, and repeats none of it. */
export class InvalidKeyError extends RequestError {
  constructor() {
    super("invalid_api_key", "Incorrect API key provided. Ask the operator of this server for one.");
  }
}

export class InsufficientRoleError extends RequestError {
  constructor(needed: string) {
    super("insufficient_permissions", `This key may not do that; use one with the role ${needed}.`);
  }
}

const pagesRemedy =
  "Without keys only programs on its own machine may use this server. Start it with --keys FILE, or, where a proxy keeps strangers out, with --insecure-no-keys yes.";

/** Repeats nothing of the header: it is a stranger's. */
export class ForeignHostError extends RequestError {
  constructor() {
    super(
      "foreign_host",
      `The Host header names another machine; call the server as 127.0.0.1, localhost or [::1]. ${pagesRemedy}`,
    );
  }
}

export class ForeignOriginError extends RequestError {
  constructor() {
    super(
      "foreign_origin",
      `The Origin header says that a web page of another machine sent this. ${pagesRemedy}`,
    );
  }
}

/** A limit that time lifts; `retryAfterMs` is null where the request alone is above it. */
export class RateLimitError extends RequestError {
  readonly retryAfterMs: number | null;

  constructor(problem: string, retryAfterMs: number | null) {
    const remedy =
      retryAfterMs === null ? "" : ` Please try again in ${Math.ceil(retryAfterMs / 100) / 10}s.`;
    super("rate_limit_exceeded", problem + remedy);
    this.retryAfterMs = retryAfterMs;
  }
}

/** A limit that only deleting something lifts. */
export class QuotaExceededError extends RequestError {
  constructor(what: string, quota: number) {
    super(
      "quota_exceeded",
      `This would be more than your quota of ${quota} ${what}; delete some, or ask the operator for more.`,
    );
  }
}
