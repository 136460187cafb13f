// What can go wrong with a download, each with its remedy.

import { CotenantError } from "../../kernels/errors.ts";

export class HubError extends CotenantError {}

/** A body whose hash is not the one that the hub lists. */
export class HashMismatchError extends HubError {
  constructor(path: string) {
    super(
      "hub_hash_mismatch",
      `${path} arrived twice with a hash that is not the hub's; the mirror or a proxy changes it, see HF_ENDPOINT`,
    );
  }
}

/** The error for a refusal of the hub; `what` was asked for. */
export function hubStatusError(status: number, what: string, cause?: unknown): HubError {
  switch (status) {
    case 401:
    case 403:
      return new HubError(
        "hub_access_denied",
        `${what} is gated, private, or does not exist: accept its terms on the hub and set HF_TOKEN to a token that may read it`,
        { cause },
      );
    case 404:
      return new HubError("hub_not_found", `${what} does not exist; check the name and the revision`, {
        cause,
      });
    case 429:
      return new HubError("hub_rate_limited", `${what}: the hub limits the rate; wait, or set HF_TOKEN`, {
        cause,
      });
    default:
      return new HubError("hub_refused", `${what}: the hub answered ${status}; try again later`, { cause });
  }
}
