// Tokens that an adapter puts in front of every sequence: prefix tuning gives their keys and values, prompt tuning
// their hidden states. Both take positions, as in PEFT, where the first real token stands after them.

import { type DecodedAdapter, modulesOf } from "../adapter.ts";
import { bytesPerToken, type KvShape } from "./kv-arena.ts";

export class VirtualTokens {
  readonly count: number;
  /** Hidden states of those that must be computed, after the ones whose keys and values are given. */
  readonly soft: { readonly tokens: number; readonly hidden: Float32Array } | null;
  readonly prefix: { readonly tokens: number; readonly keyValues: Float32Array } | null;
  /** Keys and values of all `count` tokens [layers * 2, kvHeads, count, headDim], once they are known. */
  keyValues: Float32Array | null;

  /** @returns null where the adapter has none */
  static of(adapter: DecodedAdapter, shape: KvShape): VirtualTokens | null {
    const tokens = new VirtualTokens(adapter, shape);
    return tokens.count === 0 ? null : tokens;
  }

  private constructor(adapter: DecodedAdapter, shape: KvShape) {
    const [soft] = modulesOf(adapter, "soft-prompt");
    this.soft = soft ?? null;
    this.prefix = packPrefix(adapter, shape);
    this.count = (soft?.tokens ?? 0) + (this.prefix?.tokens ?? 0);
    this.keyValues = this.soft === null ? (this.prefix?.keyValues ?? null) : null;
  }
}

function packPrefix(adapter: DecodedAdapter, shape: KvShape): VirtualTokens["prefix"] {
  const modules = modulesOf(adapter, "prefix");
  const [first] = modules;
  if (first === undefined) return null;
  const { tokens } = first;
  const keyValues = new Float32Array((tokens * bytesPerToken(shape)) / Float32Array.BYTES_PER_ELEMENT);
  const size = tokens * shape.kvHeads * shape.headDim;
  for (let layer = 0; layer < shape.layers; layer++) {
    const module = modules.find((one) => one.layer === layer);
    if (module?.tokens !== tokens) throw new RangeError(`layer ${layer} has no prefix of ${tokens} tokens`);
    keyValues.set(module.keys, layer * 2 * size);
    keyValues.set(module.values, (layer * 2 + 1) * size);
  }
  return { tokens, keyValues };
}
