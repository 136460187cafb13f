// Tiles of every window against the rule itself: a token sees the tokens of its own sequence, up to itself, and no more
// of them than the layer's window; what is padding gives and takes nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type AttentionTiles, attentionTiles, type Piece } from "./attention-tiles.ts";

const heads = 4;
const kvHeads = 2;
const group = heads / kvHeads;

type Case = { readonly lengths: readonly number[]; readonly from: number; readonly reach: number };

const cases: fc.Arbitrary<Case> = fc.record({
  lengths: fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 6 }),
  from: fc.nat({ max: 8 }), // where the window begins in the first sequence
  reach: fc.constantFrom(1, 3, Number.POSITIVE_INFINITY),
});

test("every token sees what it may, once, and padding is apart", () => {
  fc.assert(
    fc.property(cases, ({ lengths, from, reach }) => {
      const sequenceOf = lengths.flatMap((length, sequence) => Array<number>(length).fill(sequence));
      const start = (token: number) => sequenceOf.indexOf(sequenceOf[token]!);
      const first = Math.min(from, lengths[0]! - 1);
      const firstSeenBy = (token: number) => Math.max(start(token), token - reach + 1);
      const pieces: Piece[] = [];
      for (let token = first; token < sequenceOf.length; token++) {
        if (token > first && start(token) !== token) continue;
        const to = sequenceOf.lastIndexOf(sequenceOf[token]!) + 1;
        pieces.push({ from: token, to, firstKey: firstSeenBy(token) });
      }
      const tiles = attentionTiles(pieces, firstSeenBy, { heads, kvHeads });
      checkTiles(tiles, {
        first,
        count: sequenceOf.length - first,
        firstKey: firstSeenBy(first),
        firstSeenBy,
      });
    }),
  );
});

type Expected = {
  readonly first: number;
  readonly count: number;
  readonly firstKey: number;
  readonly firstSeenBy: (token: number) => number;
};

function checkTiles(all: AttentionTiles, { first, count, firstKey, firstSeenBy }: Expected): void {
  const { tiles, queries, keys, queryRows, tokenRows, keyRows, keyTokenRows, mask } = all;
  const keyCount = first + count - firstKey;
  assert.ok(tiles * queries * keys <= count * keyCount, "more scores than in one tile");
  assert.deepEqual([queryRows.length, tokenRows.length], [tiles * heads * queries, count * heads]);
  assert.deepEqual([keyRows.length, keyTokenRows.length], [tiles * kvHeads * keys, keyCount * kvHeads]);
  assert.equal(mask.length, tiles * group * queries * keys);
  const ownKeys = new Set(keyTokenRows);
  const ownQueries = new Set(tokenRows);
  assert.equal(ownKeys.size, keyTokenRows.length);
  assert.equal(ownQueries.size, tokenRows.length);
  for (const [row, place] of keyTokenRows.entries()) assert.equal(keyRows[place], row);
  for (const [place, row] of queryRows.entries()) {
    const tile = Math.floor(place / (heads * queries));
    const head = Math.floor(place / queries) % heads;
    const kvHead = Math.floor(head / group);
    const maskRow = (tile * group + (head % group)) * queries + (place % queries);
    const seen = Array.from({ length: keys }, (_, key) => key).filter(
      (key) => mask[maskRow * keys + key] === 0,
    );
    const places = seen.map((key) => (tile * kvHeads + kvHead) * keys + key);
    if (!ownQueries.has(place)) {
      assert.ok(seen.length > 0, "padding without a key");
      assert.ok(!places.some((key) => ownKeys.has(key)), "padding sees a token");
      continue;
    }
    assert.equal(tokenRows[row], place);
    assert.equal(row % heads, head);
    const token = first + Math.floor(row / heads);
    const expected = Array.from(
      { length: token + 1 - firstSeenBy(token) },
      (_, at) => firstSeenBy(token) + at,
    );
    assert.ok(places.every((key) => ownKeys.has(key) && keyRows[key]! % kvHeads === kvHead));
    assert.deepEqual(
      places.map((key) => firstKey + Math.floor(keyRows[key]! / kvHeads)),
      expected,
    );
  }
  assert.ok(mask.every((value) => value === 0 || value === Number.NEGATIVE_INFINITY));
}

test("sequences of one length are tiles of their own, a short one behind a long one is not", () => {
  const tilesOf = (lengths: readonly number[]) => {
    let from = 0;
    const pieces = lengths.map((length) => {
      from += length;
      return { from: from - length, to: from, firstKey: from - length };
    });
    const startOf = (token: number) => pieces.findLast((piece) => piece.from <= token)!.from;
    const { tiles, queries, keys } = attentionTiles(pieces, startOf, { heads, kvHeads });
    return { tiles, queries, keys };
  };
  assert.deepEqual(tilesOf([4, 4, 4]), { tiles: 3, queries: 4, keys: 4 });
  assert.deepEqual(tilesOf([2, 4, 2, 2]), { tiles: 3, queries: 4, keys: 4 });
  assert.deepEqual(tilesOf([4, 4, 3, 4]), { tiles: 4, queries: 4, keys: 4 });
  assert.deepEqual(tilesOf([9, 1]), { tiles: 1, queries: 10, keys: 10 });
});
