// Keys and values of prompt prefixes, in blocks of one prefill chunk, within a byte bound; what was used longest
// ago leaves first. A block is found by a hash over its root and all tokens up to its end, and compared with what
// was asked for before it is used: not even a collision shows one scope's block to another.

import { createHash } from "node:crypto";
import { LRUCache } from "lru-cache";

/** The fixed prefill chunk: a prompt that is cut here computes the same bits with and without the cache. */
export const prefixBlockTokens = 128;

/** What a prefix's values depend on beside its tokens. A scope's blocks are found from that scope only. */
export type PrefixRoot = { readonly scope: string; readonly adapterVersion: string | null };

/** A place in a prompt: everything before it has been computed in whole blocks. */
export type PrefixPlace = { readonly root: PrefixRoot; readonly parents: readonly string[] };

type Block<KeyValues> = {
  readonly root: PrefixRoot;
  readonly parent: string | null;
  readonly tokenIds: readonly number[];
  readonly keyValues: KeyValues; // [layers * 2, kvHeads, block, headDim], wherever they are
};

export class PrefixCache<KeyValues extends { readonly byteLength: number } = Float32Array> {
  readonly #blocks: LRUCache<string, Block<KeyValues>> | null; // null: nothing is kept
  readonly #release: (keyValues: KeyValues) => void;
  queriedTokens = 0;
  hitTokens = 0;

  /** @param release is called once for whatever was inserted, when it is not kept, or no longer */
  constructor(maxBytes: number, release: (keyValues: KeyValues) => void = () => {}) {
    this.#release = release;
    this.#blocks =
      maxBytes === 0
        ? null
        : new LRUCache({
            maxSize: maxBytes,
            sizeCalculation: ({ keyValues, tokenIds }) => keyValues.byteLength + tokenIds.length * 8,
            dispose: ({ keyValues }) => release(keyValues),
          });
  }

  get bytes(): number {
    return this.#blocks?.calculatedSize ?? 0;
  }

  get isEnabled(): boolean {
    return this.#blocks !== null;
  }

  /** The longest cached prefix that leaves at least one token to compute. */
  find(root: PrefixRoot, tokenIds: readonly number[]): { blocks: KeyValues[]; place: PrefixPlace } {
    const blocks: KeyValues[] = [];
    const parents: string[] = [];
    for (let end = prefixBlockTokens; end < tokenIds.length; end += prefixBlockTokens) {
      const wanted = tokenIds.slice(end - prefixBlockTokens, end);
      const parent = parents.at(-1) ?? null;
      const key = keyOf(root, parent, wanted);
      const block = this.#blocks?.peek(key);
      if (block === undefined || !isSame(block, { root, parent, tokenIds: wanted })) break;
      blocks.push(block.keyValues);
      parents.push(key);
    }
    this.#touch(parents);
    this.queriedTokens += tokenIds.length;
    this.hitTokens += blocks.length * prefixBlockTokens;
    return { blocks, place: { root, parents } };
  }

  /**
   * Keeps the block that follows `place`; takes ownership of its values.
   * @returns the place after it
   */
  insert(place: PrefixPlace, tokenIds: readonly number[], keyValues: KeyValues): PrefixPlace {
    const { root, parents } = place;
    const parent = parents.at(-1) ?? null;
    const key = keyOf(root, parent, tokenIds);
    const isKnown = this.#blocks?.has(key) ?? true;
    if (!isKnown) this.#blocks!.set(key, { root, parent, tokenIds, keyValues });
    if (isKnown || !this.#blocks!.has(key)) this.#release(keyValues); // alone it may be more than all may be
    const after = [...parents, key];
    this.#touch(after);
    return { root, parents: after };
  }

  dropVersion(adapterVersion: string): void {
    for (const [key, { root }] of this.#blocks?.entries() ?? []) {
      if (root.adapterVersion === adapterVersion) this.#blocks!.delete(key);
    }
  }

  clear(): void {
    this.#blocks?.clear();
  }

  /** Last to first: a block never outlives the ones before it, without which it cannot be found. */
  #touch(keys: readonly string[]): void {
    for (const key of keys.toReversed()) this.#blocks?.get(key);
  }
}

function keyOf(root: PrefixRoot, parent: string | null, tokenIds: readonly number[]): string {
  const start = parent ?? JSON.stringify([root.scope, root.adapterVersion]);
  return createHash("sha256").update(start).update("\0").update(Int32Array.from(tokenIds)).digest("base64");
}

function isSame(block: Omit<Block<never>, "keyValues">, wanted: Omit<Block<never>, "keyValues">): boolean {
  return (
    block.root.scope === wanted.root.scope &&
    block.root.adapterVersion === wanted.root.adapterVersion &&
    block.parent === wanted.parent &&
    block.tokenIds.length === wanted.tokenIds.length &&
    block.tokenIds.every((token, index) => token === wanted.tokenIds[index])
  );
}
