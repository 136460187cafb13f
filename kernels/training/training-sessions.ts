// The kernel's sessions by name, each opened when a unit first asks for it: most jobs need a few of them only, and
// each one holds working memory of its own.

import type { TrainingSession } from "./training-device.ts";

export class TrainingSessions<Name extends string> {
  readonly #open: (name: Name) => Promise<TrainingSession>;
  readonly #opened = new Map<Name, Promise<TrainingSession>>();

  constructor(open: (name: Name) => Promise<TrainingSession>) {
    this.#open = open;
  }

  isOpen(name: Name): boolean {
    return this.#opened.has(name);
  }

  get(name: Name): Promise<TrainingSession> {
    const known = this.#opened.get(name);
    if (known !== undefined) return known;
    const opening = this.#open(name);
    this.#opened.set(name, opening);
    opening.catch(() => this.#opened.delete(name)); // whoever asks next tries again
    return opening;
  }

  /** Sessions that did not open need no closing. */
  async close(): Promise<void> {
    await Promise.all(Array.from(this.#opened.values(), async (session) => (await session).close()));
  }
}
