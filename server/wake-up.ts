// Calls back at the earliest of the times that it was told.

const longestDelayMs = 2 ** 31 - 1; // of setTimeout

export class WakeUp {
  readonly #call: () => void;
  #atMs = Infinity; // Unix time
  #timer: NodeJS.Timeout | null = null;
  #isClosed = false;

  constructor(call: () => void) {
    this.#call = call;
  }

  at(unixMs: number): void {
    if (this.#isClosed || unixMs >= this.#atMs) return;
    this.#atMs = unixMs;
    this.#arm();
  }

  close(): void {
    this.#isClosed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  #arm(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    const delayMs = Math.min(longestDelayMs, Math.max(0, this.#atMs - Date.now()));
    this.#timer = setTimeout(() => {
      if (Date.now() < this.#atMs) return this.#arm();
      this.#atMs = Infinity;
      this.#call();
    }, delayMs);
    this.#timer.unref();
  }
}
