// Rows of logits on the device, as many as were ever taken at once.

import type { Feeds } from "../session.ts";
import type { GpuAllocator, GpuBuffer } from "./gpu-session.ts";

export class LogitRows {
  readonly #vocabSize: number;
  readonly #allocator: Pick<GpuAllocator, "zeros">;
  #held: { readonly rows: number; readonly data: GpuBuffer } | null = null;

  constructor(vocabSize: number, allocator: Pick<GpuAllocator, "zeros">) {
    this.#vocabSize = vocabSize;
    this.#allocator = allocator;
  }

  /** @returns [rows, vocab], over those that were taken before */
  async take(rows: number): Promise<Feeds[string]> {
    if (this.#held === null || this.#held.rows < rows) {
      this.dispose();
      this.#held = { rows, data: await this.#allocator.zeros(rows * this.#vocabSize) };
    }
    return this.#held.data.view([rows, this.#vocabSize]);
  }

  dispose(): void {
    this.#held?.data.dispose();
    this.#held = null;
  }
}
