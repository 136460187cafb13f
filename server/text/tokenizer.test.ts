// Parts of a text against the whole: encoded one by one they are the same tokens, whatever the tokenizer does around
// its added tokens.

import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { loadTextParts } from "./load-text.ts";
import { TextTokenizer } from "./tokenizer.ts";

const { tokenizer: tiny } = await loadTextParts(fileURLToPath(new URL("../../models/tiny", import.meta.url)));

type Added = { readonly content: string } & Partial<Record<"lstrip" | "rstrip" | "normalized", boolean>>;

/** One token for each of some characters and pairs of them. */
function characterTokenizer(added: readonly Added[], rest: object): TextTokenizer {
  const plain = ["<unk>", "▁", "a", "b", "A", "<", ">", "|", "x", "▁a", "ab", "▁b", "<a", "a>"];
  const tokens = [...plain, ...added.map(({ content }) => content)];
  return new TextTokenizer(
    {
      added_tokens: added.map((token, index) => ({ ...token, id: plain.length + index, special: true })),
      normalizer: null,
      pre_tokenizer: null,
      post_processor: null,
      decoder: null,
      model: {
        type: "BPE",
        unk_token: "<unk>",
        vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
        merges: ["▁ a", "a b", "▁ b", "< a", "a >"].map((pair) => pair.split(" ")),
      },
      ...rest,
    },
    {},
  );
}

const space = { type: "Replace", pattern: { String: " " }, content: "▁" };
const prepending = { type: "Sequence", normalizers: [{ type: "Prepend", prepend: "▁" }, space] };
const overlapping = [{ content: "<a>" }, { content: "<a><b>" }, { content: "<b>" }, { content: "a>" }];
const stripping = [
  { content: "<a>", lstrip: true },
  { content: "<b>", rstrip: true },
];
const tokenizers: Record<string, TextTokenizer> = {
  tiny: tiny!,
  "one token within another": characterTokenizer(overlapping, {}),
  "a space before every section": characterTokenizer(overlapping, { normalizer: prepending }),
  "a space before the first section": characterTokenizer(stripping, {
    pre_tokenizer: { type: "Metaspace", replacement: "▁", prepend_scheme: "first", split: true },
  }),
  "tokens that strip": characterTokenizer(stripping, { normalizer: prepending }),
  "tokens of the normalized text": characterTokenizer(
    [{ content: "<a>", normalized: true }, { content: "<b>" }, { content: "A", normalized: true }],
    { normalizer: { type: "Lowercase" } },
  ),
  "no added tokens": characterTokenizer([], { normalizer: prepending }),
};
const pieces = [
  "<a>",
  "<b>",
  "<|end|>",
  "<|user|>",
  "<",
  ">",
  "|",
  "a",
  "b",
  "A",
  " ",
  "  ",
  "ab",
  "x",
  "\n",
];

for (const [name, tokenizer] of Object.entries(tokenizers)) {
  test(`encoded part by part: ${name}`, () => {
    const encode = (text: string) => tokenizer.encode(text, { addSpecialTokens: false });
    const joined = (text: string) =>
      tokenizer.partsOf(text).flatMap((part, index) => encode(part).slice(Math.min(index, 1)));
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...pieces), { maxLength: 14 }), (chosen) => {
        const text = chosen.join("");
        assert.deepEqual(joined(text), encode(text));
      }),
      { numRuns: 300 },
    );
  });
}

test("a conversation has a part for each of its turns", () => {
  const text = "<|bos|><|user|>one<|end|><|assistant|>two<|end|><|assistant|>";
  const parts = tiny!.partsOf(text);
  assert.deepEqual(
    parts.filter((part) => /one|two/.test(part)),
    ["<|user|>one<|end|>", "<|assistant|>two<|end|>"],
  );
});
