// Files are encoded one at a time, as each takes memory that no other bound counts: whose turn is next is fair between
// tenants, and nobody fills the queue alone. Knows no files.

import { Allowance } from "../../adapters-store/allowance.ts";
import { CotenantError } from "../../kernels/errors.ts";

type Waiting = { readonly owner: string; readonly begin: () => void };

const waitingLimits = { inAll: 64, perOwner: 4 };

export class EncodingTurns {
  readonly #places = new Allowance(waitingLimits);
  readonly #waiting: Waiting[] = []; // in the order of arrival
  readonly #lastTurns = new Map<string, number>(); // of the owners that wait or had a turn since one waited
  #turns = 0;
  #isBusy = false;

  /** For a request. Throws CotenantError `encodings_too_many`, and the signal's reason. */
  async request<T>(owner: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    using place = this.#places.takeOne(owner);
    if (place === null) throw tooMany();
    return await this.run(owner, signal, work);
  }

  /** For those who are few anyway. Throws the signal's reason. */
  async run<T>(owner: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    await this.#turn(owner, signal);
    try {
      return await work();
    } finally {
      this.#isBusy = false;
      this.#next();
    }
  }

  async #turn(owner: string, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const turn = Promise.withResolvers<void>();
    const waiting = { owner, begin: turn.resolve };
    const leave = () => {
      const at = this.#waiting.indexOf(waiting);
      if (at < 0) return; // its turn has come: it ends by itself
      this.#waiting.splice(at, 1);
      turn.reject(signal.reason);
    };
    signal.addEventListener("abort", leave);
    this.#waiting.push(waiting);
    this.#next();
    try {
      await turn.promise;
    } finally {
      signal.removeEventListener("abort", leave);
    }
  }

  /** The first of whoever had its last turn longest ago. */
  #next(): void {
    if (this.#isBusy) return;
    const lastOf = ({ owner }: Waiting) => this.#lastTurns.get(owner) ?? 0;
    const longestAgo = this.#waiting.reduce((least, each) => Math.min(least, lastOf(each)), Infinity);
    const at = this.#waiting.findIndex((each) => lastOf(each) === longestAgo);
    if (at < 0) return this.#lastTurns.clear();
    const [next] = this.#waiting.splice(at, 1);
    this.#lastTurns.set(next!.owner, ++this.#turns);
    this.#isBusy = true;
    next!.begin();
  }
}

function tooMany(): CotenantError {
  const { perOwner } = waitingLimits;
  return new CotenantError(
    "encodings_too_many",
    `finetuning jobs wait for their files to be encoded, ${perOwner} of yours or too many in all; send the request again later`,
  );
}
