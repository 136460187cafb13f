// The contract of a device: sequences are opened, prefilled in chunks, decoded together and closed. Where their
// keys and values, adapters and weights live is the device's business; who runs next is the scheduler's.

import type { DecodedAdapter } from "./adapter.ts";

/** Logits of some tokens, in the order in which they were asked for. */
export type Logits = {
  readonly count: number;
  readonly vocabSize: number;
  readonly data: Float32Array; // [count, vocabSize]; the caller may overwrite it
};

export type SequenceId = string;

export type PrefillChunk = {
  readonly sequence: SequenceId;
  readonly tokenIds: readonly number[]; // the next tokens of the sequence, at least one
  readonly promptLength: number; // of the whole prompt that this chunk is part of
  readonly logits: "none" | "last" | "all";
};

export interface ModelRunner {
  readonly maxContext: number; // tokens
  readonly maxRows: number;
  /** Makes an adapter version known; sequences may name it afterwards. */
  addAdapter(version: string, adapter: DecodedAdapter): void;
  /** Forgets a version that no open sequence uses. */
  removeAdapter(version: string): void;
  hasAdapter(version: string): boolean;
  /** Takes a row. The caller keeps to maxRows and maxContext. */
  open(sequence: SequenceId, adapterVersion: string | null): void;
  /** Appends a chunk; returns the logits of its wanted tokens. */
  prefill(chunk: PrefillChunk): Promise<Logits>;
  /** Appends one token to each of the sequences; returns each one's next-token logits. */
  decode(entries: readonly { readonly sequence: SequenceId; readonly tokenId: number }[]): Promise<Logits>;
  isOpen(sequence: SequenceId): boolean;
  /** Frees the row. */
  close(sequence: SequenceId): void;
  stats(): RunnerStats;
  dispose(): Promise<void>;
}

/** Counters count from the start. */
export type RunnerStats = {
  readonly sessionMs: number; // inside the runtime
  readonly kvTokensUsed: number;
  readonly residentAdapters: readonly string[]; // versions that hold device slots now
  readonly slotLoads: number;
  readonly slotEvictions: number;
};
