// The requests that are being generated now, by the ids of their answers, so that their tenants can cancel them.
// Knows no engine.

import { RequestError } from "../errors.ts";

/** Says the same of an id that is another tenant's and of one that is nobody's. */
export class RequestNotFoundError extends RequestError {
  constructor(id: string) {
    super("request_not_found", `no request ${id} is running; it may have ended already`);
  }
}

export class RequestCancelledError extends RequestError {
  constructor() {
    super("request_cancelled", "the request was cancelled by DELETE /v1/requests/{id}");
  }
}

export type RunningRequest = {
  readonly id: string; // of the answer
  readonly headerId: string; // x-request-id, which its sender may have chosen: no two need differ
  readonly tenantId: string;
  readonly cancelling: AbortController;
};

export class RunningRequests {
  readonly #byId = new Map<string, RunningRequest>();

  /** Passes the pieces on; the request can be cancelled from the first to the last. */
  async *track<Piece>(pieces: AsyncIterable<Piece>, request: RunningRequest): AsyncGenerator<Piece> {
    this.#byId.set(request.id, request);
    try {
      yield* pieces;
    } finally {
      this.#byId.delete(request.id);
    }
  }

  /**
   * Ends the tenant's request of either id with RequestCancelledError, and several where they have the same header.
   * Throws RequestNotFoundError.
   */
  cancel(id: string, tenantId: string): void {
    const own = [...this.#byId.values()].filter((request) => request.tenantId === tenantId);
    const named = own.filter((request) => request.id === id || request.headerId === id);
    if (named.length === 0) throw new RequestNotFoundError(id);
    for (const { cancelling } of named) cancelling.abort(new RequestCancelledError());
  }
}
