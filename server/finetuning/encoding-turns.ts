// Files are encoded one at a time, in turns of a second: whose turn is next is fair between tenants, and nobody fills the
// queue alone. As what is half encoded takes memory that no other bound counts, a tenant has one such file, and few
// tenants do. Knows no files.

import { Allowance } from "../../adapters-store/allowance.ts";
import { CotenantError } from "../../kernels/errors.ts";

/** To be called often: after a second of it another tenant has its turn. Throws the signal's reason. */
export type GiveWay = () => Promise<void>;

export type EncodingWork<T> = (giveWay: GiveWay) => Promise<T>;

export type EncodingTurnsOptions = { readonly turnMs?: number };

type Encoding = {
  readonly owner: string;
  readonly isSmall: boolean; // begins however many have begun
  readonly signal: AbortSignal;
};
type Waiting = { readonly encoding: Encoding; readonly begin: () => void };

const waitingLimits = { inAll: 64, perOwner: 4 };
const mostBegun = 4; // each has at most 128 MiB of ids and weights

export class EncodingTurns {
  readonly #turnMs: number;
  readonly #places = new Allowance(waitingLimits);
  readonly #waiting: Waiting[] = []; // in the order of arrival
  readonly #begun = new Map<string, Encoding>(); // by owner
  readonly #lastTurns = new Map<string, number>(); // of the owners that wait or had a turn since one waited
  #turns = 0;
  #turnStartMs = 0;
  #current: Encoding | null = null;

  constructor({ turnMs = 1000 }: EncodingTurnsOptions = {}) {
    this.#turnMs = turnMs;
  }

  /** For a request, which has little to encode. Throws CotenantError `encodings_too_many`, and the signal's reason. */
  async request<T>(owner: string, signal: AbortSignal, work: EncodingWork<T>): Promise<T> {
    using place = this.#places.takeOne(owner);
    if (place === null) throw tooMany();
    return await this.#encode({ owner, isSmall: true, signal }, work);
  }

  /** For those who are few anyway. Throws the signal's reason. */
  async run<T>(owner: string, signal: AbortSignal, work: EncodingWork<T>): Promise<T> {
    return await this.#encode({ owner, isSmall: false, signal }, work);
  }

  async #encode<T>(encoding: Encoding, work: EncodingWork<T>): Promise<T> {
    await this.#turn(encoding);
    try {
      return await work(() => this.#giveWay(encoding));
    } finally {
      this.#begun.delete(encoding.owner);
      if (this.#current === encoding) this.#current = null; // not where it was aborted as it gave way
      this.#next();
    }
  }

  async #giveWay(encoding: Encoding): Promise<void> {
    encoding.signal.throwIfAborted();
    if (performance.now() - this.#turnStartMs < this.#turnMs) return;
    this.#current = null;
    await this.#turn(encoding);
  }

  async #turn(encoding: Encoding): Promise<void> {
    const { signal } = encoding;
    signal.throwIfAborted();
    const turn = Promise.withResolvers<void>();
    const waiting = { encoding, begin: turn.resolve };
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

  /** The first of whoever had its last turn longest ago, of those that may have one. */
  #next(): void {
    if (this.#current !== null) return;
    const due = this.#waiting.filter(({ encoding }) => this.#mayGoOn(encoding));
    const lastOf = ({ encoding }: Waiting) => this.#lastTurns.get(encoding.owner) ?? 0;
    const longestAgo = due.reduce((least, each) => Math.min(least, lastOf(each)), Infinity);
    const next = due.find((each) => lastOf(each) === longestAgo);
    if (next === undefined) return this.#lastTurns.clear();
    const { encoding, begin } = next;
    this.#waiting.splice(this.#waiting.indexOf(next), 1);
    this.#begun.set(encoding.owner, encoding);
    this.#lastTurns.set(encoding.owner, ++this.#turns);
    this.#current = encoding;
    this.#turnStartMs = performance.now();
    begin();
  }

  #mayGoOn(encoding: Encoding): boolean {
    const ofOwner = this.#begun.get(encoding.owner);
    if (ofOwner !== undefined) return ofOwner === encoding;
    return encoding.isSmall || this.#begun.size < mostBegun;
  }
}

function tooMany(): CotenantError {
  const { perOwner } = waitingLimits;
  return new CotenantError(
    "encodings_too_many",
    `finetuning jobs wait for their files to be encoded, ${perOwner} of yours or too many in all; send the request again later`,
  );
}
