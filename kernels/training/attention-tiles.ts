// How the attention of a window is cut: into tiles of whole sequences, all padded to one shape, so that sequences which
// share a window do not score each other's keys. Gives the rows that the graph gathers, and the mask; knows no values.

import type { ModelConfig } from "../model-config.ts";

/** Tokens of one sequence in a window, and the first token that any of them sees. */
export type Piece = { readonly from: number; readonly to: number; readonly firstKey: number };

/** With S tokens of H heads, P + S keys of K kv heads; T tiles of Q queries and N keys, padding included. */
export type AttentionTiles = {
  readonly tiles: number;
  readonly queries: number;
  readonly keys: number;
  readonly queryRows: Int32Array; // [T, K, H / K * Q], of [S H]
  readonly tokenRows: Int32Array; // [S, H], of what those rows make
  readonly keyRows: Int32Array; // [T, K, N], of [(P + S) K]
  readonly keyTokenRows: Int32Array; // [P + S, K], of what those rows make
  readonly mask: Float32Array; // [T, 1, H / K * Q, N], added to scores: 0 where a token may look, else minus infinity
};

/**
 * @param pieces in order; only the first one sees tokens from before the window
 * @param firstSeenBy the first token that a token sees
 */
export function attentionTiles(
  pieces: readonly Piece[],
  firstSeenBy: (token: number) => number,
  { heads, kvHeads }: Pick<ModelConfig, "heads" | "kvHeads">,
): AttentionTiles {
  const cuts = cheaper([joined(pieces)], joinedUpTo(pieces, Math.max(...pieces.map(lengthOf))));
  const { queries, keys } = paddedShape(cuts);
  const { from, firstKey } = pieces[0]!;
  const { to } = pieces.at(-1)!;
  const tiles = cuts.length;
  const group = heads / kvHeads;
  const all = {
    tiles,
    queries,
    keys,
    queryRows: new Int32Array(tiles * heads * queries), // padding reads row 0
    tokenRows: new Int32Array((to - from) * heads),
    keyRows: new Int32Array(tiles * kvHeads * keys),
    keyTokenRows: new Int32Array((to - firstKey) * kvHeads),
    mask: new Float32Array(tiles * group * queries * keys).fill(Number.NEGATIVE_INFINITY),
  };
  for (const [index, tile] of cuts.entries()) {
    const count = lengthOf(tile);
    for (let head = 0; head < heads; head++) {
      const at = (index * heads + head) * queries;
      for (let query = 0; query < count; query++) {
        const row = (tile.from - from + query) * heads + head;
        all.queryRows[at + query] = row;
        all.tokenRows[row] = at + query;
      }
    }
    for (let head = 0; head < kvHeads; head++) {
      const at = (index * kvHeads + head) * keys;
      for (let key = tile.firstKey; key < tile.to; key++) {
        const row = (key - firstKey) * kvHeads + head;
        all.keyRows[at + key - tile.firstKey] = row;
        all.keyTokenRows[row] = at + key - tile.firstKey;
      }
    }
    const size = queries * keys;
    const mask = all.mask.subarray(index * group * size, (index + 1) * group * size);
    for (let query = 0; query < count; query++) {
      const token = tile.from + query;
      const row = query * keys - tile.firstKey;
      mask.fill(0, row + firstSeenBy(token), row + token + 1);
    }
    // Padding looks at padding alone, so that no gradient comes from it.
    for (let query = count; query < queries; query++) mask[query * keys + tile.to - tile.firstKey] = 0;
    for (let at = size; at < mask.length; at += size) mask.copyWithin(at, 0, size);
  }
  return all;
}

function lengthOf({ from, to }: Piece): number {
  return to - from;
}

function joined(pieces: readonly Piece[]): Piece {
  return { ...pieces[0]!, to: pieces.at(-1)!.to };
}

/** Neighbours together as long as they have no more than `most` tokens. */
function joinedUpTo(pieces: readonly Piece[], most: number): Piece[] {
  const tiles: Piece[] = [];
  for (const piece of pieces) {
    const last = tiles.at(-1);
    if (last !== undefined && piece.to - last.from <= most)
      tiles[tiles.length - 1] = { ...last, to: piece.to };
    else tiles.push(piece);
  }
  return tiles;
}

function cheaper(one: readonly Piece[], other: readonly Piece[]): readonly Piece[] {
  const scores = (tiles: readonly Piece[]) => {
    const { queries, keys } = paddedShape(tiles);
    return tiles.length * queries * keys;
  };
  return scores(one) <= scores(other) ? one : other;
}

/** Padded queries need a padded key. */
function paddedShape(tiles: readonly Piece[]): { queries: number; keys: number } {
  const queries = Math.max(...tiles.map(lengthOf));
  const keys = tiles.map((tile) => tile.to - tile.firstKey + (lengthOf(tile) < queries ? 1 : 0));
  return { queries, keys: Math.max(...keys) };
}
