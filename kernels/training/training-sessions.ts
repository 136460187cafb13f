// The kernel's sessions by name, each opened when a unit first asks for it: most jobs need a few of them only, and
// each one holds working memory of its own.

import { Session } from "../session.ts";
import type { TrainingDevice, TrainingSession } from "./training-device.ts";

export class TrainingSessions<Name extends string> {
  readonly #models: Readonly<Record<Name, () => Uint8Array>>;
  readonly #threads: number;
  readonly #open: TrainingDevice["openSession"];
  readonly #opened = new Map<Name, Promise<TrainingSession>>();

  constructor(
    models: Readonly<Record<Name, () => Uint8Array>>,
    threads: number,
    open: TrainingDevice["openSession"] = Session.open,
  ) {
    this.#models = models;
    this.#threads = threads;
    this.#open = open;
  }

  get(name: Name): Promise<TrainingSession> {
    const known = this.#opened.get(name);
    if (known !== undefined) return known;
    const opening = this.#open({ modelPath: this.#models[name](), threads: this.#threads });
    this.#opened.set(name, opening);
    opening.catch(() => this.#opened.delete(name)); // whoever asks next tries again
    return opening;
  }

  /** Sessions that did not open need no closing. */
  async close(): Promise<void> {
    await Promise.all(Array.from(this.#opened.values(), async (session) => (await session).close()));
  }
}
