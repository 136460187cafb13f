// A session that opens when it is first asked for. One that did not open is tried again, and needs no closing.

import { GpuSession, type GpuSessionOptions } from "./gpu-session.ts";

export class LazySession {
  readonly #options: () => GpuSessionOptions;
  #opening: Promise<GpuSession> | null = null;

  constructor(options: () => GpuSessionOptions) {
    this.#options = options;
  }

  get(): Promise<GpuSession> {
    if (this.#opening !== null) return this.#opening;
    const opening = GpuSession.open(this.#options());
    this.#opening = opening;
    opening.catch(() => {
      this.#opening = null;
    });
    return opening;
  }

  async close(): Promise<void> {
    const session = await this.#opening?.catch(() => null);
    await session?.close();
  }
}
