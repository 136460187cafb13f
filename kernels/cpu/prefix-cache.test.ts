// The cache against a plain list of what was inserted: it finds whole blocks of the same scope, version and tokens,
// nothing else, and keeps to its bytes.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { PrefixCache, type PrefixRoot, prefixBlockTokens } from "./prefix-cache.ts";

const block = (token: number) => Array<number>(prefixBlockTokens).fill(token);
const prompt = (blocks: readonly number[]) => [...blocks.flatMap(block), 7];
const root = (scope: string, adapterVersion: string | null = null): PrefixRoot => ({ scope, adapterVersion });

/** Computes what is missing of a prompt; a block's values name its root and all its tokens. */
function serve(cache: PrefixCache, one: PrefixRoot, blocks: readonly number[]): number {
  const name = (end: number) => Float32Array.from([hash(JSON.stringify([one, blocks.slice(0, end)]))]);
  const found = cache.find(one, prompt(blocks));
  for (const [index, values] of found.blocks.entries()) assert.deepEqual(values, name(index + 1));
  let { place } = found;
  for (let at = found.blocks.length; at < blocks.length; at++) {
    place = cache.insert(place, block(blocks[at]!), name(at + 1));
  }
  return found.blocks.length;
}

function hash(text: string): number {
  let value = 0;
  for (const char of text) value = (value * 31 + char.charCodeAt(0)) % 16_777_213;
  return value;
}

test("finds the longest inserted prefix of the same scope and version", () => {
  const request = fc.record({
    scope: fc.constantFrom("a", "b", "a,b"),
    version: fc.constantFrom(null, "v1", "null"),
    blocks: fc.array(fc.nat(2), { maxLength: 4 }),
  });
  fc.assert(
    fc.property(fc.array(request, { minLength: 2, maxLength: 20 }), (requests) => {
      const cache = new PrefixCache(1 << 20);
      const known = new Set<string>();
      for (const { scope, version, blocks } of requests) {
        const names = blocks.map((_, index) => JSON.stringify([scope, version, blocks.slice(0, index + 1)]));
        const missing = names.findIndex((name) => !known.has(name));
        const expected = missing < 0 ? names.length : missing;
        assert.equal(serve(cache, root(scope, version), blocks), expected);
        for (const name of names) known.add(name);
      }
    }),
    { seed: 1, numRuns: 300 },
  );
});

test("leaves at least one token to compute, and counts tokens", () => {
  const cache = new PrefixCache(1 << 20);
  serve(cache, root("a"), [1, 2]);
  assert.equal(cache.find(root("a"), [...block(1), ...block(2)]).blocks.length, 1);
  assert.equal(cache.find(root("a"), block(1)).blocks.length, 0);
  assert.equal(cache.hitTokens, 128);
  assert.equal(cache.queriedTokens, 257 + 256 + 128);
});

test("a dropped version leaves nothing behind, others stay", () => {
  const cache = new PrefixCache(1 << 20);
  for (const version of ["v1", "v2", null]) serve(cache, root("a", version), [1, 2]);
  const { bytes } = cache;
  cache.dropVersion("v1");
  assert.equal(cache.bytes, (bytes / 3) * 2);
  assert.deepEqual(
    ["v1", "v2", null].map((version) => cache.find(root("a", version), prompt([1, 2])).blocks.length),
    [0, 2, 2],
  );
});

test("keeps to its bytes; the end of a prefix leaves before its beginning", () => {
  const blockBytes = 4 + prefixBlockTokens * 8;
  const cache = new PrefixCache(3 * blockBytes);
  serve(cache, root("a"), [1, 2, 3]);
  serve(cache, root("a"), [1, 2]);
  serve(cache, root("b"), [9]);
  assert.ok(cache.bytes <= 3 * blockBytes);
  assert.equal(cache.find(root("a"), prompt([1, 2, 3])).blocks.length, 2);
  serve(cache, root("b"), [9, 8]);
  assert.equal(cache.find(root("a"), prompt([1, 2, 3])).blocks.length, 1);
});

test("without bytes nothing is kept", () => {
  const cache = new PrefixCache(0);
  assert.equal(cache.isEnabled, false);
  serve(cache, root("a"), [1]);
  assert.equal(cache.find(root("a"), prompt([1])).blocks.length, 0);
  assert.equal(cache.bytes, 0);
});
