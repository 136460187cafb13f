// A byte-level BPE tokenizer of any vocabulary size that no text was needed for: the 256 bytes, then letter
// pairs, triples and quadruples, with and without a space before them. Every id decodes to some text, and
// English takes two to three letters per token.

import type { ModelShape } from "./model-shapes.ts";

/** The letters in the order of their frequency in English, so that small vocabularies merge the likely pairs. */
const letters = [..."etaoinshrdlcumwfgypbvkjxqz"];
const space = "Ġ"; // how byte-level BPE writes it

/** tokenizer.json as Hugging Face tokenizers reads it. */
export function generateTokenizer(shape: ModelShape): unknown {
  const { specialTokens, bosToken } = shape;
  const size = shape.config.vocab_size;
  const merges = mergesUpTo(size - 256 - Object.keys(specialTokens).length);
  const texts = [...byteLetters(), ...merges.map((pair) => pair.join(""))];
  const takenIds = new Set(Object.values(specialTokens));
  const freeIds = Array.from({ length: size }, (_, id) => id).filter((id) => !takenIds.has(id));
  const vocab = { ...specialTokens, ...Object.fromEntries(texts.map((text, i) => [text, freeIds[i]!])) };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: Object.entries(specialTokens).map(([content, id]) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: bosToken === null ? null : prefixWith(bosToken, specialTokens[bosToken]!),
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab,
      merges,
    },
  };
}

/** GPT-2's table: printable bytes stand for themselves, the others for letters from U+0100 on. */
function byteLetters(): string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const isPrintable = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
    return String.fromCodePoint(isPrintable ? byte : next++);
  });
}

function mergesUpTo(count: number): [left: string, right: string][] {
  const merges: [string, string][] = [];
  for (const merge of allMerges()) {
    if (merges.length === count) break;
    merges.push(merge);
  }
  return merges;
}

/** 26 + 2 x 676 + 2 x 17,576 + 456,976 pairs: more than any published vocabulary holds. */
function* allMerges(): Generator<[left: string, right: string]> {
  for (const letter of letters) yield [space, letter];
  const pairs = letters.flatMap((left) => letters.map((right) => [left, right] as [string, string]));
  const pairTexts = pairs.map((pair) => pair.join(""));
  yield* pairs;
  for (const pair of pairTexts) yield [space, pair];
  for (const pair of pairTexts) for (const letter of letters) yield [pair, letter];
  for (const pair of pairTexts) for (const letter of letters) yield [space, pair + letter];
  for (const left of pairTexts) for (const right of pairTexts) yield [left, right];
}

function prefixWith(token: string, id: number): unknown {
  const prefix = { SpecialToken: { id: token, type_id: 0 } };
  const sequence = (name: string, type_id: number) => ({ Sequence: { id: name, type_id } });
  return {
    type: "TemplateProcessing",
    single: [prefix, sequence("A", 0)],
    pair: [prefix, sequence("A", 0), prefix, sequence("B", 1)],
    special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } },
  };
}
