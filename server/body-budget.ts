// How many bytes of larger JSON bodies may be in memory, all requests together, until their answers begin: each is
// small by its own limit, and a flood of them is not.

import { RequestError } from "./errors.ts";

export const bodyBudgetBytes = 16 * 1024 * 1024;

const retryAfterMs = 1000;

export class BodiesTooManyError extends RequestError {
  readonly retryAfterMs = retryAfterMs;

  constructor() {
    super("bodies_too_many", "the server is reading too many large requests at once; send it again later");
  }
}

export class BodyBudget {
  readonly #limitBytes: number;
  #usedBytes = 0;

  constructor(limitBytes: number = bodyBudgetBytes) {
    this.#limitBytes = limitBytes;
  }

  /** A body's share, which grows as it arrives and ends with the scope. */
  share(): BodyShare {
    let ownBytes = 0;
    return {
      take: (bytes) => {
        if (this.#usedBytes + bytes > this.#limitBytes) throw new BodiesTooManyError();
        this.#usedBytes += bytes;
        ownBytes += bytes;
      },
      [Symbol.dispose]: () => {
        this.#usedBytes -= ownBytes;
        ownBytes = 0;
      },
    };
  }
}

export type BodyShare = Disposable & {
  /** Throws BodiesTooManyError, and then takes nothing. */
  take(bytes: number): void;
};
