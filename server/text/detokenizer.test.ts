import assert from "node:assert/strict";
import { before, suite, test } from "node:test";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { createDetokenizer } from "./detokenizer.ts";
import { loadTextParts } from "./load-text.ts";
import { TextTokenizer } from "./tokenizer.ts";

/** A SentencePiece-like vocabulary: words with a leading ▁, single letters, and all bytes. */
function bytesFallbackTokenizer(): TextTokenizer {
  const words = ["▁", "▁the", "▁cat", "s", "a", "é", "▁日"];
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
  );
  const vocabulary = ["<unk>", "</s>", ...bytes, ...words];
  const added = (id: number, content: string) => ({ id, content, special: true, normalized: false });
  return new TextTokenizer(
    {
      added_tokens: [added(0, "<unk>"), added(1, "</s>")],
      normalizer: { type: "Replace", pattern: { String: " " }, content: "▁" },
      pre_tokenizer: null,
      post_processor: null,
      decoder: {
        type: "Sequence",
        decoders: [
          { type: "Replace", pattern: { String: "▁" }, content: " " },
          { type: "ByteFallback" },
          { type: "Fuse" },
          { type: "Strip", content: " ", start: 1, stop: 0 },
        ],
      },
      model: {
        type: "BPE",
        unk_token: "<unk>",
        byte_fallback: true,
        fuse_unk: true,
        vocab: Object.fromEntries(vocabulary.map((token, id) => [token, id])),
        merges: [],
      },
    },
    {},
  );
}

function decodeByToken(
  tokenizer: TextTokenizer,
  tokenIds: readonly number[],
  skipSpecialTokens: boolean,
): string[] {
  const detokenizer = createDetokenizer(tokenizer, { skipSpecialTokens });
  return [...tokenIds.map((id) => detokenizer.push(id)), detokenizer.flush()];
}

suite("detokenizer", () => {
  let tokenizers: TextTokenizer[] = [];

  before(async () => {
    const tiny = await loadTextParts(fileURLToPath(new URL("../../models/tiny", import.meta.url)));
    tokenizers = [tiny.tokenizer!, bytesFallbackTokenizer()];
  });

  const sizes = [2048, 265];

  for (const [which, size] of sizes.entries()) {
    test(`any tokens one by one give the whole decode (vocabulary ${which})`, () => {
      // Often bytes: their tokens lie at the vocabulary's start.
      const tokenId = fc.oneof(fc.nat(size + 1), fc.nat(Math.min(size, 262)));
      fc.assert(
        fc.property(fc.array(tokenId, { maxLength: 40 }), fc.boolean(), (tokenIds, skipSpecialTokens) => {
          const tokenizer = tokenizers[which]!;
          const parts = decodeByToken(tokenizer, tokenIds, skipSpecialTokens);
          assert.equal(parts.join(""), tokenizer.decode(tokenIds, { skipSpecialTokens }));
          assert.ok(parts.every((part) => part.isWellFormed()));
        }),
        { numRuns: 3000 },
      );
    });

    test(`real text never shows half a character (vocabulary ${which})`, () => {
      fc.assert(
        fc.property(fc.string({ unit: "grapheme", maxLength: 30 }), (text) => {
          if (text.includes("\uFFFD") || text.includes("▁")) return;
          const tokenizer = tokenizers[which]!;
          const tokenIds = tokenizer.encode(text, { addSpecialTokens: false });
          const parts = decodeByToken(tokenizer, tokenIds, true);
          assert.ok(parts.every((part) => !part.includes("\uFFFD")));
          assert.equal(parts.join(""), tokenizer.decode(tokenIds, { skipSpecialTokens: true }));
        }),
        { numRuns: 2000 },
      );
    });
  }

  test("an emoji of several tokens comes out when it is complete", () => {
    const tokenizer = tokenizers[0]!;
    const tokenIds = tokenizer.encode("é🦙!", { addSpecialTokens: false });
    const shown = decodeByToken(tokenizer, tokenIds, true).filter((part) => part !== "");
    assert.deepEqual(shown, ["é", "🦙", "!"]);
  });
});
