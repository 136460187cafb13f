import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { promptPieces } from "./prompt-pieces.ts";

test("pieces are the chunk, none is too long, and each token's logits are wanted where it is", () => {
  const chunk = fc
    .array(fc.nat(99), { minLength: 1, maxLength: 30 })
    .chain((ids) =>
      fc.tuple(fc.constant(ids), fc.subarray([...ids.keys()]), fc.integer({ min: 1, max: 40 })),
    );
  fc.assert(
    fc.property(chunk, ([ids, wanted, most]) => {
      const pieces = promptPieces({ ids, wanted }, most);
      assert.deepEqual(
        pieces.flatMap((piece) => piece.ids),
        ids,
      );
      assert.ok(pieces.every((piece) => piece.ids.length > 0 && piece.ids.length <= most));
      assert.deepEqual(
        pieces.flatMap((piece) => piece.wanted.map((token) => piece.ids[token])),
        wanted.map((token) => ids[token]),
      );
    }),
  );
});
