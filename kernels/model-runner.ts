// The contract of a device: sequences are opened, prefilled in chunks, decoded together and closed. Where their
// keys and values, adapters and weights live is the device's business; who runs next is the scheduler's.

import type { DecodedAdapter } from "./adapter.ts";
import type { Durations } from "./durations.ts";
import type { Divergence } from "./sampling/blend.ts";
import type { KnownLogits, LogitsQuery } from "./sampling/logits-query.ts";

/** Logits of some tokens, in the order in which they were asked for. */
export type Logits = {
  readonly count: number;
  readonly vocabSize: number;
  readonly data: Float32Array; // [count, vocabSize]; the caller may overwrite it, and has it until its next call
  /** By token, where a device told what was asked for instead: those have no row in `data`. */
  readonly known?: readonly (KnownLogits | null)[];
  /** The device has blended: there is one token for each blend, with its last part, and not for each part. */
  readonly isBlended?: boolean;
  readonly divergences?: readonly Divergence[]; // where it has compared: of each token, instead of logits
};

export type DecodeEntry = {
  readonly sequence: SequenceId;
  readonly tokenId: number;
  readonly query?: AskLogits;
  readonly blend?: BlendPart | null;
};

/**
 * What suffices of the logits, null where nothing less than all does; the device may still tell all of them.
 * @param wanted which of the wanted tokens' logits, counted from 0
 */
export type AskLogits = (wanted: number) => LogitsQuery | null;

/**
 * Of a weighted sum of rows' logits, or of a comparison of two rows. All parts follow one another, in one decode or in
 * calls of prefill with nothing between them, and ask for the same.
 */
export type BlendPart = {
  readonly type: "logits" | "compare";
  readonly index: number;
  readonly count: number; // of the parts
  readonly weight: number; // in the sum
};

export type SequenceId = string;

export type OpenOptions = {
  readonly adapterVersion: string | null;
  /** What may be taken from the prefix cache and kept there; null keeps the sequence out of it. */
  readonly prefix: PrefixQuery | null;
};

export type PrefixQuery = {
  readonly scope: string; // only sequences of one scope share
  readonly tokenIds: readonly number[]; // the whole prompt
};

export type PrefillChunk = {
  readonly sequence: SequenceId;
  readonly tokenIds: readonly number[]; // the next tokens of the sequence, at least one
  readonly promptLength: number; // of the whole prompt that this chunk is part of
  readonly logits: "none" | "last" | "all";
  readonly query?: AskLogits;
  readonly blend?: BlendPart | null;
};

export interface ModelRunner {
  readonly maxContext: number; // tokens, an adapter's virtual ones included
  readonly maxRows: number;
  /** Makes an adapter version known; sequences may name it afterwards. */
  addAdapter(version: string, adapter: DecodedAdapter): void;
  /** Forgets a version that no open sequence uses, and the prefixes computed with it. */
  removeAdapter(version: string): void;
  hasAdapter(version: string): boolean;
  /** Tokens that the adapter puts in front of every sequence. */
  virtualTokens(adapterVersion: string | null): number;
  /** What a sequence of so many tokens (virtual ones included) takes from the key/value budget. */
  kvBytesOf(tokens: number): number;
  /**
   * Takes a row, and memory for the prompt where it is given. The caller keeps to maxRows and maxContext.
   * @returns cachedTokens: the prompt's first tokens that need no prefill; at least one token is left
   * @throws KvMemoryError `kv_memory_exhausted`; nothing has changed then
   */
  open(sequence: SequenceId, options: OpenOptions): { readonly cachedTokens: number };
  /**
   * Appends a chunk; returns the logits of its wanted tokens.
   * @throws KvMemoryError `kv_memory_exhausted`; nothing has changed then
   */
  prefill(chunk: PrefillChunk): Promise<Logits>;
  /**
   * Appends one token to each of the sequences; returns each one's next-token logits.
   * @throws KvMemoryError `kv_memory_exhausted`; nothing has changed then
   */
  decode(entries: readonly DecodeEntry[]): Promise<Logits>;
  isOpen(sequence: SequenceId): boolean;
  /** Frees the row. */
  close(sequence: SequenceId): void;
  stats(): RunnerStats;
  dispose(): Promise<void>;
}

/** Counters count from the start. */
export type RunnerStats = {
  readonly sessionMs: number; // inside the runtime
  readonly busBytes: number; // to and from a device with memory of its own; 0 where there is none
  readonly kvTokensUsed: number;
  readonly kvBytesUsed: number; // promised to open sequences
  readonly kvBytesCapacity: number;
  readonly prefixQueriedTokens: number;
  readonly prefixHitTokens: number;
  readonly prefixBytes: number;
  readonly residentAdapters: readonly string[]; // versions that are on the device now
  readonly slotLoads: number;
  readonly slotLoadTimes: Durations;
  readonly slotEvictions: number;
};
