// A device for tests: its logits are a hash of everything that the sequence's row has seen, and how it was cut. A
// sequence that is cut elsewhere, misses a token or repeats one draws other tokens.

import { createHash } from "node:crypto";
import { noDurations } from "../kernels/durations.ts";
import { KvMemoryError } from "../kernels/errors.ts";
import type { Logits, ModelRunner, OpenOptions, PrefillChunk, RunnerStats } from "../kernels/model-runner.ts";

type Row = { history: string; tokens: number; promised: number; readonly adapterVersion: string | null };

export type HistoryRunnerOptions = {
  readonly maxRows: number;
  readonly maxContext: number;
  readonly kvTokens: number; // a byte each
};

export class HistoryRunner implements ModelRunner {
  readonly maxContext: number;
  readonly maxRows: number;
  readonly vocabSize = 64;
  /** Largest values that were seen. */
  readonly most = { rows: 0, adapters: 0, kvBytes: 0 };
  /** What each run was: sequences that decode, or the one that prefills. */
  readonly runs: { readonly kind: "decode" | "prefill"; readonly sequences: readonly string[] }[] = [];
  readonly #kvTokens: number;
  readonly #rows = new Map<string, Row>();
  readonly #adapters = new Set<string>();

  constructor({ maxRows, maxContext, kvTokens }: HistoryRunnerOptions) {
    this.maxRows = maxRows;
    this.maxContext = maxContext;
    this.#kvTokens = kvTokens;
  }

  addAdapter(version: string): void {
    this.#adapters.add(version);
  }

  removeAdapter(version: string): void {
    this.#adapters.delete(version);
  }

  hasAdapter(version: string): boolean {
    return this.#adapters.has(version);
  }

  virtualTokens(): number {
    return 0;
  }

  kvBytesOf(tokens: number): number {
    return tokens;
  }

  open(sequence: string, { adapterVersion, prefix }: OpenOptions): { cachedTokens: number } {
    if (this.#rows.size === this.maxRows) throw new RangeError("all rows are taken");
    const row = {
      history: `${adapterVersion}`,
      tokens: 0,
      promised: prefix?.tokenIds.length ?? 0,
      adapterVersion,
    };
    this.#rows.set(sequence, row);
    this.#check(() => this.#rows.delete(sequence));
    return { cachedTokens: 0 };
  }

  async prefill({ sequence, tokenIds, logits, promptLength }: PrefillChunk): Promise<Logits> {
    this.runs.push({ kind: "prefill", sequences: [sequence] });
    const row = this.#rows.get(sequence)!;
    this.#append(row, `[${tokenIds.join(" ")}]/${promptLength}`, tokenIds.length);
    const count = { none: 0, last: 1, all: tokenIds.length }[logits];
    return this.#logits(Array.from({ length: count }, (_, index) => `${row.history} ${count - index}`));
  }

  async decode(entries: readonly { sequence: string; tokenId: number }[]): Promise<Logits> {
    this.runs.push({ kind: "decode", sequences: entries.map(({ sequence }) => sequence) });
    const rows = entries.map(({ sequence, tokenId }) => {
      const row = this.#rows.get(sequence)!;
      this.#append(row, ` ${tokenId}`, 1);
      return row.history;
    });
    return this.#logits(rows);
  }

  isOpen(sequence: string): boolean {
    return this.#rows.has(sequence);
  }

  close(sequence: string): void {
    if (!this.#rows.delete(sequence)) throw new RangeError(`sequence ${sequence} is not open`);
  }

  stats(): RunnerStats {
    const tokens = [...this.#rows.values()].reduce((sum, row) => sum + row.tokens, 0);
    return {
      sessionMs: 0,
      busBytes: 0,
      kvTokensUsed: tokens,
      kvBytesUsed: this.#kvBytes(),
      kvBytesCapacity: this.#kvTokens,
      prefixQueriedTokens: 0,
      prefixHitTokens: 0,
      prefixBytes: 0,
      residentAdapters: [],
      slotLoads: 0,
      slotLoadTimes: noDurations,
      slotEvictions: 0,
    };
  }

  async dispose(): Promise<void> {}

  #kvBytes(): number {
    return [...this.#rows.values()].reduce((sum, row) => sum + Math.max(row.tokens, row.promised), 0);
  }

  #append(row: Row, seen: string, tokens: number): void {
    row.history += seen;
    row.tokens += tokens;
    this.#check(() => {});
  }

  #check(undo: () => void): void {
    const kvBytes = this.#kvBytes();
    if (kvBytes > this.#kvTokens) {
      undo();
      throw new KvMemoryError("kv_memory_exhausted", `${kvBytes} of ${this.#kvTokens} bytes`);
    }
    const adapters = new Set([...this.#rows.values()].flatMap(({ adapterVersion }) => adapterVersion ?? []));
    this.most.rows = Math.max(this.most.rows, this.#rows.size);
    this.most.adapters = Math.max(this.most.adapters, adapters.size);
    this.most.kvBytes = Math.max(this.most.kvBytes, kvBytes);
  }

  #logits(seeds: readonly string[]): Logits {
    const rows = seeds.map((seed) =>
      [...createHash("sha512").update(seed).digest()].map((byte) => byte / 16),
    );
    return { count: rows.length, vocabSize: this.vocabSize, data: Float32Array.from(rows.flat()) };
  }
}
