// Tokens that an adapter puts in front of every sequence, on the device: their keys and values cross the bus, or are
// computed, once, and are copied into each sequence's buffers from there.

import type { DecodedAdapter } from "../adapter.ts";
import type { KvShape } from "../cpu/kv-arena.ts";
import { lengthMatters } from "../cpu/prefix-scaling.ts";
import { VirtualTokens } from "../cpu/virtual-tokens.ts";
import type { RotaryConfig } from "../model-config.ts";
import type { KvBuffers } from "./gpu-kv-moves.ts";
import { disposeSpan, type GpuKvSpans, type KvSpan } from "./gpu-kv-spans.ts";

type Known = { readonly tokens: VirtualTokens; span: KvSpan | null }; // of all tokens, once it is known

/** A sequence whose own buffers they go to. */
export type VirtualPlace = {
  readonly sequence: { length: number };
  readonly kv: KvBuffers;
  /** Computes tokens of the sequence from hidden states [tokens, hidden], and counts them. */
  readonly compute: (hidden: Float32Array) => Promise<void>;
};

export type GpuVirtualTokensOptions = {
  readonly shape: KvShape & { readonly hiddenSize: number; readonly rotaries: readonly RotaryConfig[] };
  readonly spans: GpuKvSpans;
  readonly chunkTokens: number; // that are computed at once
};

export class GpuVirtualTokens {
  readonly #options: GpuVirtualTokensOptions;
  readonly #known = new Map<string, Known>();

  constructor(options: GpuVirtualTokensOptions) {
    this.#options = options;
  }

  add(version: string, adapter: DecodedAdapter): void {
    const tokens = VirtualTokens.of(adapter, this.#options.shape);
    if (tokens !== null) this.#known.set(version, { tokens, span: null });
  }

  remove(version: string): void {
    const span = this.#known.get(version)?.span ?? null;
    if (span !== null) disposeSpan(span);
    this.#known.delete(version);
  }

  count(version: string | null): number {
    return (version === null ? undefined : this.#known.get(version))?.tokens.count ?? 0;
  }

  /** Puts those that a sequence lacks in front of it. */
  async place(version: string, { sequence, kv, compute }: VirtualPlace): Promise<void> {
    const known = this.#known.get(version)!;
    const { spans } = this.#options;
    const { count, soft, keyValues } = known.tokens;
    if (known.span === null && keyValues !== null) known.span = await spans.upload(keyValues, count);
    if (known.span !== null) {
      await spans.copyIn(known.span, kv, 0);
      sequence.length = count;
      return;
    }
    await this.#compute(known.tokens, { sequence, kv, compute });
    // Every further sequence of the adapter starts with these, unless they depend on its length.
    if (soft === null || lengthMatters(this.#options.shape.rotaries, Number.POSITIVE_INFINITY)) return;
    known.span = await spans.copyOut(kv, 0, count);
  }

  dispose(): void {
    for (const version of [...this.#known.keys()]) this.remove(version);
  }

  /** A soft prompt's are computed like a prompt's, behind those whose keys and values are given. */
  async #compute({ soft, prefix }: VirtualTokens, { sequence, kv, compute }: VirtualPlace): Promise<void> {
    const { spans, shape, chunkTokens } = this.#options;
    const given = prefix?.tokens ?? 0;
    if (prefix !== null && sequence.length === 0) {
      const span = await spans.upload(prefix.keyValues, given);
      await spans.copyIn(span, kv, 0);
      disposeSpan(span);
      sequence.length = given;
    }
    while (sequence.length < given + soft!.tokens) {
      const first = (sequence.length - given) * shape.hiddenSize;
      await compute(soft!.hidden.slice(first, first + chunkTokens * shape.hiddenSize));
    }
  }
}
