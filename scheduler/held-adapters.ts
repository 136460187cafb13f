// The adapter versions that the engine holds: which may be asked for, what they weigh, and which are to leave when
// their last sequence has left.

import { adapterBytes, type DecodedAdapter } from "../kernels/adapter.ts";
import { CotenantError } from "../kernels/errors.ts";
import type { ModelRunner } from "../kernels/model-runner.ts";
import type { FromEngine } from "./protocol.ts";
import type { Sequence } from "./sequence.ts";

export class HeldAdapters {
  readonly #runner: ModelRunner;
  readonly #bytes = new Map<string, number>();
  readonly #leaving = new Set<string>();

  constructor(runner: ModelRunner) {
    this.#runner = runner;
  }

  /** Whether new requests may name it. */
  isKnown(version: string): boolean {
    return this.#runner.hasAdapter(version) && !this.#leaving.has(version);
  }

  add(version: string, adapter: DecodedAdapter): FromEngine {
    this.#leaving.delete(version);
    try {
      if (!this.#runner.hasAdapter(version)) this.#runner.addAdapter(version, adapter);
      this.#bytes.set(version, adapterBytes(adapter));
      return { type: "adapter-added", version };
    } catch (error) {
      const message = `the engine could not take the adapter: ${error instanceof Error ? error.message : String(error)}`;
      const code = error instanceof CotenantError ? error.code : "adapter_load_failed";
      return { type: "adapter-failed", version, code, message };
    }
  }

  /** The sequences that have it keep it. */
  remove(version: string, sequences: readonly Sequence[]): FromEngine {
    this.#leaving.add(version);
    this.dropUnused(sequences);
    return { type: "adapter-removed", version };
  }

  dropUnused(sequences: readonly Sequence[]): void {
    if (this.#leaving.size === 0) return;
    const used = new Set(sequences.flatMap(({ adapterVersions }) => adapterVersions));
    for (const version of this.#leaving) {
      if (used.has(version)) continue;
      this.#runner.removeAdapter(version);
      this.#bytes.delete(version);
      this.#leaving.delete(version);
    }
  }

  bytesOf(version: string): number {
    return this.#bytes.get(version) ?? 0;
  }

  /** Of the distinct versions of these sequences. */
  bytesOfAll(sequences: readonly Sequence[]): number {
    const versions = new Set(sequences.flatMap(({ adapterVersions }) => adapterVersions));
    return [...versions].reduce((sum, version) => sum + this.bytesOf(version), 0);
  }
}
