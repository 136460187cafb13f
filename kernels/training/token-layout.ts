// Where a batch's tokens lie: sequences one after another, cut into windows that need not end where a sequence ends,
// since attention keeps sequences apart. Gives the windows' masks, tiles of attention and rotary rows; knows no values.

import type { ModelConfig } from "../model-config.ts";
import { RotaryTable } from "../rotary.ts";
import { type AttentionTiles, attentionTiles } from "./attention-tiles.ts";

export type TrainingSequence = {
  readonly tokenIds: readonly number[];
  /** Tokens whose log-probability, given those before them, the objective reads: ascending, never the first. */
  readonly scored: readonly number[];
};

/** Tokens [from, to). */
export type TokenRange = { readonly from: number; readonly to: number };

/** Of the windows whose tiles are known; beyond it they are made anew, for each layer and window in the worst case. */
const knownMasksBytes = 4 * 2 ** 20;

export class TokenLayout {
  readonly tokenIds: readonly number[];
  /** Of all sequences, in order: the token that is scored, and `at - 1` is where its logits come from. */
  readonly scored: readonly { readonly at: number; readonly tokenId: number }[];
  readonly windows: readonly TokenRange[];
  readonly #config: ModelConfig;
  readonly #start: Int32Array; // [tokens], of the token's sequence
  readonly #tiles = new Map<string, AttentionTiles>(); // by window
  readonly #rotaries: readonly { readonly cos: Float32Array; readonly sin: Float32Array }[]; // [tokens, half] each

  /** @throws RangeError for a sequence without tokens, or with its first token scored */
  constructor(config: ModelConfig, sequences: readonly TrainingSequence[], windowTokens: number) {
    this.#config = config;
    this.tokenIds = sequences.flatMap(({ tokenIds }) => tokenIds);
    this.#start = new Int32Array(this.tokenIds.length);
    const scored: { at: number; tokenId: number }[] = [];
    const starts: number[] = [];
    let start = 0;
    for (const { tokenIds, scored: own } of sequences) {
      if (tokenIds.length === 0) throw new RangeError("a training sequence has no tokens");
      for (const at of own) {
        if (!(at > 0 && at < tokenIds.length)) throw new RangeError(`token ${at} cannot be scored`);
        scored.push({ at: start + at, tokenId: tokenIds[at]! });
      }
      this.#start.fill(start, start, start + tokenIds.length);
      starts.push(start);
      start += tokenIds.length;
    }
    this.scored = scored;
    this.windows = cut(this.tokenIds.length, windowTokens);
    this.#rotaries = config.rotaries.map((rotary) => {
      const table = new RotaryTable(rotary);
      const size = this.tokenIds.length * table.halfDimensions;
      const rows = { cos: new Float32Array(size), sin: new Float32Array(size) };
      for (const [index, { tokenIds }] of sequences.entries()) {
        table.fill({ ...rows, row: starts[index]! }, 0, tokenIds.length, tokenIds.length);
      }
      return rows;
    });
  }

  /** cos and sin of a window's tokens, [tokens, half] each. */
  rotary(layer: number, { from, to }: TokenRange): { cos: Float32Array; sin: Float32Array; half: number } {
    const index = this.#config.layerRotary[layer]!;
    const half = this.#config.rotaries[index]!.dimensions / 2;
    const { cos, sin } = this.#rotaries[index]!;
    return { cos: cos.subarray(from * half, to * half), sin: sin.subarray(from * half, to * half), half };
  }

  /** The first token that any of the window's tokens sees in the layer. */
  firstSeen(layer: number, { from }: TokenRange): number {
    return this.#firstSeenBy(layer, from); // later tokens see no earlier ones
  }

  /**
   * What is added to scores: 0 where a token may look, minus infinity elsewhere. [groups * tokens, keys]
   * @param first the key to begin with, at most the first that is seen
   */
  mask(layer: number, window: TokenRange, first = this.firstSeen(layer, window)): Float32Array {
    const { heads, kvHeads } = this.#config;
    const keys = window.to - first;
    const size = (window.to - window.from) * keys;
    const mask = new Float32Array((heads / kvHeads) * size).fill(Number.NEGATIVE_INFINITY, 0, size);
    for (let token = window.from; token < window.to; token++) {
      const row = (token - window.from) * keys - first;
      mask.fill(0, row + this.#firstSeenBy(layer, token), row + token + 1);
    }
    for (let at = size; at < mask.length; at += size) mask.copyWithin(at, 0, size);
    return mask;
  }

  /** How the layer's attention of a window is cut. */
  attention(layer: number, window: TokenRange): AttentionTiles {
    const key = `${window.from} ${this.#config.layerWindow[layer]}`; // else all layers are alike
    let tiles = this.#tiles.get(key);
    if (tiles === undefined) {
      const firstSeenBy = (token: number) => this.#firstSeenBy(layer, token);
      const pieces = this.#piecesOf(window).map((range) => ({ ...range, firstKey: firstSeenBy(range.from) }));
      tiles = attentionTiles(pieces, firstSeenBy, this.#config);
      const masks = [...this.#tiles.values(), tiles].reduce((sum, { mask }) => sum + mask.byteLength, 0);
      if (masks > knownMasksBytes) this.#tiles.clear();
      this.#tiles.set(key, tiles);
    }
    return tiles;
  }

  /** Cut where sequences end. */
  #piecesOf({ from, to }: TokenRange): TokenRange[] {
    const starts = [from];
    for (let token = from + 1; token < to; token++) if (this.#start[token] === token) starts.push(token);
    return starts.map((start, index) => ({ from: start, to: starts[index + 1] ?? to }));
  }

  #firstSeenBy(layer: number, token: number): number {
    const window = this.#config.layerWindow[layer] ?? Number.POSITIVE_INFINITY;
    return Math.max(this.#start[token]!, token - window + 1);
  }
}

/** Consecutive ranges of `size`, the last one shorter. */
export function cut(count: number, size: number): TokenRange[] {
  return Array.from({ length: Math.ceil(count / size) }, (_, index) => ({
    from: index * size,
    to: Math.min(count, (index + 1) * size),
  }));
}
