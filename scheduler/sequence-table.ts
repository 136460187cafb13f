// All requests that the engine has, in order of arrival, and what goes with being here: the row on the device, the
// service counters, and the adapter version that may not leave before them. Knows no plan.

import type { ModelRunner, PrefixQuery } from "../kernels/model-runner.ts";
import type { GenerationEvent, GenerationRequest } from "./protocol.ts";
import type { LatencyTargets, Snapshot } from "./scheduling-policy.ts";
import { Sequence, type SequenceOptions } from "./sequence.ts";
import { ServiceCounters } from "./service-counters.ts";

export type SequenceTableOptions = SequenceOptions & {
  readonly runner: ModelRunner;
  readonly maxAdapters: number; // distinct versions with a row at once
  readonly sharePrefixes: boolean; // between tenants, where the base alone computed them
  readonly targets: LatencyTargets;
};

export class SequenceTable {
  readonly #options: SequenceTableOptions;
  readonly #sequences = new Map<string, Sequence>();
  readonly #counters = new ServiceCounters();
  readonly #maxKvBytes: number;
  preemptions = 0;

  constructor(options: SequenceTableOptions) {
    this.#options = options;
    this.#maxKvBytes = options.runner.stats().kvBytesCapacity;
  }

  get size(): number {
    return this.#sequences.size;
  }

  get(id: string): Sequence | undefined {
    return this.#sequences.get(id);
  }

  all(): Sequence[] {
    return [...this.#sequences.values()];
  }

  enter(request: GenerationRequest): void {
    this.#sequences.set(request.id, new Sequence(request, this.#options));
    this.#counters.arrive(request);
  }

  /**
   * Takes a row for a waiting sequence.
   * @throws KvMemoryError `kv_memory_exhausted`; it still waits then
   */
  start(sequence: Sequence): GenerationEvent[] {
    const { runner } = this.#options;
    const prefix = this.#prefixOf(sequence);
    let cachedTokens = 0;
    try {
      for (const { rowId, adapterVersion } of sequence.members) {
        cachedTokens = runner.open(rowId, { adapterVersion, prefix }).cachedTokens;
      }
    } catch (error) {
      this.#close(sequence);
      throw error;
    }
    this.#counters.stopWaiting(sequence.request);
    return sequence.start(cachedTokens);
  }

  /** Takes the row back; the sequence waits again. */
  preempt(sequence: Sequence): void {
    this.#close(sequence);
    sequence.preempt();
    this.#counters.wait(sequence.request);
    this.preemptions++;
  }

  leave(sequence: Sequence): void {
    const { request } = sequence;
    if (!this.#sequences.delete(request.id)) return;
    this.charge(sequence);
    this.#close(sequence);
    if (sequence.state === "waiting") this.#counters.stopWaiting(request);
    this.#counters.leave(request);
  }

  /** Gives back the rows that it has. */
  #close({ members }: Sequence): void {
    const { runner } = this.#options;
    for (const { rowId } of members) if (runner.isOpen(rowId)) runner.close(rowId);
  }

  /** Puts what a sequence was newly served on its tenant's account. */
  charge(sequence: Sequence): void {
    this.#counters.charge(sequence.request, sequence.newlyServed());
  }

  snapshot(): Snapshot {
    const { runner, maxAdapters, targets } = this.#options;
    return {
      nowMs: performance.now(),
      sequences: this.all().map((sequence) => sequence.snapshot(this.#kvBytesOf(sequence))),
      tenants: this.#counters.snapshot(),
      residentAdapters: new Set(runner.stats().residentAdapters),
      maxRows: runner.maxRows,
      maxAdapters,
      maxKvBytes: this.#maxKvBytes,
      targets,
    };
  }

  #kvBytesOf(sequence: Sequence): number {
    const { runner } = this.#options;
    return sequence.members.reduce((sum, { adapterVersion }) => {
      return sum + runner.kvBytesOf(runner.virtualTokens(adapterVersion) + sequence.tokensToCome);
    }, 0);
  }

  /**
   * A prompt whose log-probabilities are wanted needs every token's logits, and is cut at other places: it takes
   * nothing from the cache and leaves nothing there. Nor does a blend, whose rows advance together.
   */
  #prefixOf({ request }: Sequence): PrefixQuery | null {
    const { promptTokenIds, promptLogprobs, tenant, adapterVersion, blend } = request;
    if (promptLogprobs !== null || blend !== null) return null;
    const isShared = adapterVersion === null && this.#options.sharePrefixes;
    return { scope: isShared ? "" : `tenant ${tenant.id}`, tokenIds: promptTokenIds };
  }
}
