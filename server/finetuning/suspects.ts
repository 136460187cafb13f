// Whose doing an engine's death may be. At the first one it may be that of every job that was in the engine; from then on
// those go on one at a time, until a checkpoint clears them, and later deaths are held against that one alone: a job that
// kills engines is found, and nobody else's job is stopped for it.

export type SuspectsOptions = { readonly longestTurnMs?: number };

export class Suspects {
  readonly #longestTurnMs: number;
  #turn: { readonly id: string; readonly ended: PromiseWithResolvers<void> } | null = null;

  constructor({ longestTurnMs = 30_000 }: SuspectsOptions = {}) {
    this.#longestTurnMs = longestTurnMs;
  }

  /** @returns what ends the turn, which may be called more than once. Throws the signal's reason. */
  async turn(id: string, signal: AbortSignal): Promise<() => void> {
    while (this.#turn !== null) await unlessAborted(this.#turn.ended.promise, signal);
    signal.throwIfAborted();
    const turn = { id, ended: Promise.withResolvers<void>() };
    this.#turn = turn;
    const end = () => {
      clearTimeout(timer);
      if (this.#turn === turn) this.#turn = null;
      turn.ended.resolve();
    };
    const timer = setTimeout(end, this.#longestTurnMs).unref();
    return end;
  }

  /** Whether a death just now may be the job's doing. */
  includes(id: string): boolean {
    return this.#turn === null || this.#turn.id === id;
  }
}

async function unlessAborted(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const leave = () => reject(signal.reason);
  signal.throwIfAborted();
  signal.addEventListener("abort", leave);
  try {
    await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", leave);
  }
}
