// The prefix cache on the device: blocks of keys and values are copied out of a sequence's buffers once they are
// computed, and into those of a sequence that begins with the same tokens when its first chunk runs.

import { PrefixCache, type PrefixPlace, type PrefixRoot, prefixBlockTokens } from "../cpu/prefix-cache.ts";
import type { KvBuffers } from "./gpu-kv-moves.ts";
import { disposeSpan, type GpuKvSpans, type KvSpan } from "./gpu-kv-spans.ts";
import { GpuMemoryError } from "./gpu-session.ts";

/** A block, on the device until nobody keeps it: the cache, or a sequence that has yet to copy it. */
class HeldBlock {
  readonly byteLength: number;
  readonly span: KvSpan;
  #holders = 1;

  constructor(span: KvSpan, byteLength: number) {
    this.span = span;
    this.byteLength = byteLength;
  }

  hold(): this {
    this.#holders++;
    return this;
  }

  release(): void {
    if (--this.#holders === 0) disposeSpan(this.span);
  }
}

/** What a sequence has of the cache: blocks that it has yet to copy, and where its next one belongs. */
export type PrefixUse = { blocks: readonly HeldBlock[]; place: PrefixPlace | null };

export type GpuPrefixesOptions = {
  readonly maxBytes: number;
  readonly blockBytes: number;
  readonly spans: GpuKvSpans;
};

export class GpuPrefixes {
  readonly #options: GpuPrefixesOptions;
  readonly #cache: PrefixCache<HeldBlock>;

  constructor(options: GpuPrefixesOptions) {
    this.#options = options;
    this.#cache = new PrefixCache(options.maxBytes, (block) => block.release());
  }

  get stats() {
    const { queriedTokens, hitTokens, bytes } = this.#cache;
    return { prefixQueriedTokens: queriedTokens, prefixHitTokens: hitTokens, prefixBytes: bytes };
  }

  /** @param prompt null where the sequence takes no part */
  open(root: PrefixRoot, prompt: readonly number[] | null): PrefixUse {
    if (prompt === null || !this.#cache.isEnabled) return { blocks: [], place: null };
    const { blocks, place } = this.#cache.find(root, prompt);
    return { blocks: blocks.map((block) => block.hold()), place };
  }

  /** Copies the sequence's blocks into its buffers, from place `first` on. @returns how many tokens they are */
  async copyIn(use: PrefixUse, kv: KvBuffers, first: number): Promise<number> {
    const tokens = cachedTokens(use);
    for (const [index, { span }] of use.blocks.entries()) {
      await this.#options.spans.copyIn(span, kv, first + index * prefixBlockTokens);
    }
    this.close(use);
    return tokens;
  }

  /**
   * Keeps a chunk that was computed, where it is the block that comes next.
   * @param chunk its tokens, which of the prompt's they are, and where its keys and values lie
   */
  async keep(use: PrefixUse, chunk: ComputedChunk): Promise<void> {
    const { tokenIds, promptOffset, kv, first } = chunk;
    const { place } = use;
    const isNext = place !== null && promptOffset === place.parents.length * prefixBlockTokens;
    if (!isNext || tokenIds.length !== prefixBlockTokens) return;
    try {
      const span = await this.#options.spans.copyOut(kv, first, prefixBlockTokens);
      use.place = this.#cache.insert(place, [...tokenIds], new HeldBlock(span, this.#options.blockBytes));
    } catch (error) {
      if (!(error instanceof GpuMemoryError)) throw error;
      use.place = null; // the sequence has what it needs; a cache is for memory that is left
    }
  }

  /** The sequence copies nothing any more. */
  close(use: PrefixUse): void {
    for (const block of use.blocks) block.release();
    use.blocks = [];
  }

  dropVersion(version: string): void {
    this.#cache.dropVersion(version);
  }

  dispose(): void {
    this.#cache.clear();
  }
}

export type ComputedChunk = {
  readonly tokenIds: readonly number[];
  readonly promptOffset: number;
  readonly kv: KvBuffers;
  readonly first: number;
};

/** That a sequence has yet to copy. */
export function cachedTokens({ blocks }: PrefixUse): number {
  return blocks.length * prefixBlockTokens;
}
