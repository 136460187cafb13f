// Training tokens against serving's own: what a request with the same messages prefills, and what it would draw.

import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { conversationTokenIds } from "../endpoints/conversation.ts";
import { promptTokenIds } from "../endpoints/prompt.ts";
import { RequestError } from "../errors.ts";
import { ChatTemplate } from "../text/chat-template.ts";
import { loadTextParts } from "../text/load-text.ts";
import { TextModel } from "../text/text-model.ts";
import { TextTokenizer } from "../text/tokenizer.ts";
import { type EncodedFile, type EncodeOptions, encodeExamples } from "./encode-examples.ts";
import type { ExampleFormat } from "./training-example.ts";

const tinyDirectory = fileURLToPath(new URL("../../models/tiny", import.meta.url));
const model = { eosTokenIds: [2, 0], vocabSize: 2048 }; // of models/tiny
const end = 2; // <|end|>

let directory: string;
let text: TextModel;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "cotenant-encode-"));
  text = new TextModel(await loadTextParts(tinyDirectory));
});

after(() => rm(directory, { recursive: true }));

type Message = {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
  readonly weight?: 0 | 1;
};

const user = (content: string): Message => ({ role: "user", content });
const assistant = (content: string, weight?: 0 | 1): Message => ({
  role: "assistant",
  content,
  ...(weight !== undefined && { weight }),
});

async function encode(
  format: ExampleFormat,
  examples: readonly unknown[],
  options: Partial<EncodeOptions> = {},
): Promise<EncodedFile> {
  const path = join(directory, "examples.jsonl");
  await writeFile(path, examples.map((example) => JSON.stringify(example)).join("\n"));
  return encodeExamples(path, format, { text, model, maxTokens: 1024, overLength: "refuse", ...options });
}

type Sequence = { readonly tokenIds: number[]; readonly weights: number[] };

function sequencesOf({ examples: { tokenIds, weights, ends } }: EncodedFile): Sequence[] {
  return [...ends].map((to, index) => {
    const from = ends[index - 1] ?? 0;
    return { tokenIds: [...tokenIds.subarray(from, to)], weights: [...weights.subarray(from, to)] };
  });
}

/** A sequence's scored stretches, each with all the tokens before it. */
function answersOf({ tokenIds, weights }: Sequence): { prompt: number[]; answer: number[] }[] {
  const answers: { prompt: number[]; answer: number[] }[] = [];
  for (let start = 0; start < tokenIds.length; start++) {
    if (weights[start] === 0) continue;
    let stop = start;
    while (weights[stop] === 1) stop++;
    answers.push({ prompt: tokenIds.slice(0, start), answer: tokenIds.slice(start, stop) });
    start = stop;
  }
  return answers;
}

const served = async (messages: readonly Message[], model = text) => [
  ...(await conversationTokenIds(
    { messages: messages.map(({ role, content }) => ({ role, content })) },
    model,
  )),
];

const decode = (tokenIds: readonly number[], model = text) =>
  model.tokenizer.decode(tokenIds, { skipSpecialTokens: false });

test("the demo tasks' examples: the prompt is serving's, the answer is the completion and its end", async () => {
  for (const name of await readdir(join(tinyDirectory, "train-examples"))) {
    const lines = (await readFile(join(tinyDirectory, "train-examples", name), "utf8")).trim().split("\n");
    const conversations = lines.map((line) => (JSON.parse(line) as { messages: Message[] }).messages);
    const encoded = await encode(
      "chat",
      conversations.map((messages) => ({ messages })),
    );
    const sequences = sequencesOf(encoded);
    assert.equal(sequences.length, lines.length);
    for (const [index, sequence] of sequences.entries()) {
      const messages = conversations[index]!;
      const [{ prompt, answer }, ...more] = answersOf(sequence) as [ReturnType<typeof answersOf>[number]];
      assert.deepEqual(more, []);
      assert.deepEqual(prompt, await served(messages.slice(0, -1)));
      assert.equal(decode(answer), `${messages.at(-1)!.content}<|end|>`);
      assert.equal(answer.at(-1), end);
    }
    const { tokenIds, weights } = encoded.examples;
    assert.deepEqual(encoded.report, {
      examples: lines.length,
      sequences: lines.length,
      tokens: tokenIds.length,
      scoredTokens: weights.filter((weight) => weight === 1).length,
      truncated: 0,
      longestTokens: Math.max(...sequences.map((sequence) => sequence.tokenIds.length)),
    });
  }
});

/** Templates over tiny's tokenizer, after those of known models. */
const templates = {
  tiny: null,
  chatml:
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
  // Past turns are written without what the prompt ends in, as by templates of reasoning models.
  reasoning:
    "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|><think>\n' }}{% endif %}",
  // The past is written otherwise than the present.
  forgetful:
    "{% for m in messages %}{% if loop.last or m.role == 'user' %}{{ m.role + ': ' + m.content + '<|end|>' }}{% else %}{{ m.role + ': …<|end|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}",
  endless:
    "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}",
};

async function withTemplate(source: string | null): Promise<TextModel> {
  const parts = await loadTextParts(tinyDirectory);
  return source === null ? text : new TextModel({ ...parts, template: new ChatTemplate(source, {}) });
}

const content = fc.string({ unit: "grapheme", minLength: 1 }).filter((each) => each.trim() !== "");
const leading = fc.constantFrom("", " ", "\n", "\n\n");
const anyContent = fc.tuple(leading, content).map(([space, rest]) => space + rest);
const anyConversation = fc
  .array(
    fc.record({
      question: anyContent,
      answer: anyContent,
      weight: fc.constantFrom(undefined, 0 as const, 1 as const),
    }),
    { minLength: 1, maxLength: 4 },
  )
  .filter((turns) => turns.some(({ weight }) => weight !== 0))
  .map((turns) =>
    turns.flatMap(({ question, answer, weight }) => [user(question), assistant(answer, weight)]),
  );

for (const [name, source] of Object.entries(templates)) {
  test(`every answer stands behind serving's own prompt and ends in a stop: ${name}`, async () => {
    const model = await withTemplate(source);
    await fc.assert(
      fc.asyncProperty(anyConversation, async (messages) => {
        const encoded = await encode("chat", [{ messages }], { text: model });
        const answers = sequencesOf(encoded).flatMap(answersOf);
        const learned = messages.flatMap(({ role, weight }, index) =>
          role === "assistant" && weight !== 0 ? [index] : [],
        );
        assert.equal(answers.length, learned.length);
        for (const [place, index] of learned.entries()) {
          const { prompt, answer } = answers[place]!;
          assert.deepEqual(prompt, await served(messages.slice(0, index), model));
          assert.equal(answer.indexOf(end), answer.length - 1);
          assert.ok(decode(answer, model).includes(messages[index]!.content.trim()));
        }
      }),
      { numRuns: 40 },
    );
  });
}

test("behind a prompt that no past turn shows, an answer is learned as it is, even if its end holds it too", async () => {
  const source =
    "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|><think>\n' }}{% endif %}";
  for (const each of [source, source.replace("m.content", "(m.content | trim)")]) {
    const thinking = await withTemplate(each);
    await fc.assert(
      fc.asyncProperty(leading, fc.stringMatching(/^[<|end>sit]{1,8}$/), async (space, answer) => {
        fc.pre(!answer.includes("<|end|>"));
        const messages = [user("end"), assistant(space + answer)];
        const [sequence] = sequencesOf(await encode("chat", [{ messages }], { text: thinking }));
        const [found] = answersOf(sequence!);
        assert.deepEqual(found!.prompt, await served(messages.slice(0, -1), thinking));
        assert.equal(decode(found!.answer), `${answer}<|end|>`);
      }),
      {
        numRuns: 60,
        examples: [
          ["", "end"],
          ["", "<"],
          ["", "<t"],
          ["", "<think"],
          ["\n", "a"],
        ],
      },
    );
  }
});

test("a conversation is encoded in time that grows with its length alone", async (t) => {
  const encoded: number[] = [];
  for (const count of [20, 80]) {
    const messages = Array.from({ length: count }, (_, index) => [
      user(`question ${index}`),
      assistant(`answer ${index}`),
    ]).flat();
    const { mock } = t.mock.method(text.tokenizer, "encode");
    await encode("chat", [{ messages }], { maxTokens: 1e5 });
    encoded.push(mock.calls.reduce((sum, { arguments: [part] }) => sum + part.length, 0));
    mock.restore();
  }
  assert.ok(encoded[1]! < 5 * encoded[0]!, `${encoded} characters`);
});

test("turns share a sequence where the template writes the past as it was", async () => {
  const messages = [user("a"), assistant("b"), user("c"), assistant("d", 0), user("e"), assistant("f")];
  const counts = new Map<string, number>();
  for (const [name, source] of Object.entries(templates)) {
    const { report } = await encode("chat", [{ messages }], { text: await withTemplate(source) });
    counts.set(name, report.sequences);
    assert.equal(report.examples, 1);
  }
  assert.deepEqual(Object.fromEntries(counts), {
    tiny: 1,
    chatml: 1,
    reasoning: 2,
    forgetful: 2,
    endless: 2,
  });
});

test("completions: serving's prompt, then the completion and the model's end", async () => {
  await fc.assert(
    fc.asyncProperty(anyContent, anyContent, async (prompt, completion) => {
      const [sequence] = sequencesOf(await encode("completion", [{ prompt, completion }]));
      const [found] = answersOf(sequence!);
      assert.deepEqual(found!.prompt, [...(await promptTokenIds({ text: prompt }, text))]);
      assert.equal(decode(found!.answer), `${completion}<|end|>`);
    }),
    { numRuns: 60 },
  );
});

test("preferences: pairs behind one prompt, the preferred first", async () => {
  const examples = ["yes", "of course", "certainly"].map((preferred, index) => ({
    input: { messages: [{ role: "system", content: "s" }, user(`question ${index}`)] },
    preferred_output: [assistant(preferred)],
    non_preferred_output: [assistant("no")],
  }));
  const encoded = await encode("preference", examples);
  const answers = sequencesOf(encoded).flatMap(answersOf);
  assert.deepEqual(
    answers.map(({ answer }) => decode(answer)),
    ["yes", "no", "of course", "no", "certainly", "no"].map((answer) => `${answer}<|end|>`),
  );
  for (const [index, { prompt }] of answers.entries())
    assert.deepEqual(prompt, await served(examples[index >> 1]!.input.messages as Message[]));
  assert.deepEqual([encoded.report.examples, encoded.report.sequences], [3, 6]);
});

test("prompts are scored where the job wants it, but never a sequence's first token", async () => {
  const examples = [{ messages: [user("a"), assistant("b"), user("c"), assistant("d")] }];
  const [sequence] = sequencesOf(await encode("chat", examples, { trainOnPrompt: true }));
  assert.deepEqual(sequence!.weights, [0, ...Array(sequence!.tokenIds.length - 1).fill(1)]);
  const [bare] = sequencesOf(await encode("completion", [{ prompt: "", completion: "ab" }]));
  assert.equal(bare!.weights[0], 0);
  const weighted = [{ messages: [user("a"), assistant("b", 0), user("c"), assistant("d")] }];
  await assert.rejects(
    encode("chat", weighted, { trainOnPrompt: true }),
    /line 1: messages\[1\]\.weight is 0/,
  );
});

test("what is too long is refused with both lengths, or cut at its end", async () => {
  const long = { messages: [user("a b c d e f"), assistant("g h i j k l m n o p")] };
  const short = { messages: [user("a"), assistant("b")] };
  const [whole] = sequencesOf(await encode("chat", [long]));
  const { length } = whole!.tokenIds;
  await assert.rejects(encode("chat", [short, long, short], { maxTokens: length - 1 }), {
    code: "invalid_training_file",
    message: new RegExp(`^line 2: reaches ${length} tokens, more than the ${length - 1} of a sequence`),
  });
  assert.equal((await encode("chat", [long], { maxTokens: length })).report.truncated, 0);
  const scored = whole!.weights.filter((weight) => weight === 1).length;
  for (let maxTokens = length - 1; maxTokens > length - scored; maxTokens--) {
    const cut = await encode("chat", [short, long], { maxTokens, overLength: "truncate" });
    assert.deepEqual(sequencesOf(cut)[1], {
      tokenIds: whole!.tokenIds.slice(0, maxTokens),
      weights: whole!.weights.slice(0, maxTokens),
    });
    assert.deepEqual([cut.report.truncated, cut.report.longestTokens], [1, maxTokens]);
  }
  await assert.rejects(
    encode("chat", [short, long], { maxTokens: length - scored, overLength: "truncate" }),
    {
      message: new RegExp(
        `^line 2: has nothing to learn within ${length - scored} tokens, where it reaches ${length}`,
      ),
    },
  );
});

test("of a pair, both sides must have something left", async () => {
  const pair = (preferred: string, other: string) => ({
    input: { messages: [user(preferred)] },
    preferred_output: [assistant(other)],
    non_preferred_output: [assistant("a b c d e f g h")],
  });
  const example = pair("x", "y");
  const [first, second] = sequencesOf(await encode("preference", [example]));
  const promptTokens = first!.weights.indexOf(1);
  const cut = await encode("preference", [example], { maxTokens: promptTokens + 1, overLength: "truncate" });
  assert.deepEqual(
    sequencesOf(cut).map(({ tokenIds }) => tokenIds),
    [first, second].map((each) => each!.tokenIds.slice(0, promptTokens + 1)),
  );
  await assert.rejects(
    encode("preference", [example], { maxTokens: promptTokens, overLength: "truncate" }),
    /line 1: has nothing to learn within/,
  );
});

test("a conversation of thousands of tokens is left as soon as it is too long", async (t) => {
  const turns = Array.from({ length: 450 }, (_, index) => [user(`q${index}`), assistant(`a${index}`)]).flat();
  const { mock } = t.mock.method(text, "renderChat");
  const { report } = await encode("chat", [{ messages: turns }], { maxTokens: 64, overLength: "truncate" });
  assert.deepEqual([report.truncated, report.longestTokens], [1, 64]);
  assert.ok(
    mock.callCount() > 0 && mock.callCount() < 50,
    `rendered ${mock.callCount()} times, of 450 turns`,
  );
});

test("an answer that holds what ends an answer is refused", async () => {
  const message = /line 1: messages\[1\]\.content holds <\|end\|>, which ends an answer/;
  await assert.rejects(encode("chat", [{ messages: [user("a"), assistant("b<|end|>")] }]), message);
  await assert.rejects(
    encode("completion", [{ prompt: "a", completion: "b<|end|>" }]),
    /completion holds <\|end/,
  );
});

/** As Llama 2's: a space is put before every text. */
function spacingTokenizer(): TextTokenizer {
  const tokens = ["<unk>", "<s>", "</s>", "▁", "a", "b", "x", "▁a", "ab", "▁b"];
  const added = tokens.slice(0, 3).map((content, id) => ({ id, content, special: true }));
  const space = { type: "Replace", pattern: { String: " " }, content: "▁" };
  return new TextTokenizer(
    {
      added_tokens: added,
      normalizer: { type: "Sequence", normalizers: [{ type: "Prepend", prepend: "▁" }, space] },
      pre_tokenizer: null,
      post_processor: null,
      decoder: {
        type: "Sequence",
        decoders: [
          { type: "Replace", pattern: { String: "▁" }, content: " " },
          { type: "Fuse" },
          { type: "Strip", content: " ", start: 1, stop: 0 },
        ],
      },
      model: {
        type: "BPE",
        unk_token: "<unk>",
        vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
        merges: [
          ["▁", "a"],
          ["a", "b"],
          ["▁", "b"],
        ],
      },
    },
    {},
  );
}

test("where a tokenizer puts a space before every text, an answer is cut out of the whole or refused", async () => {
  const spacing = new TextModel({ tokenizer: spacingTokenizer(), template: null });
  const of = (prompt: string, completion: string) =>
    encode("completion", [{ prompt, completion }], { text: spacing });
  const [sequence] = sequencesOf(await of("xa", " b"));
  assert.deepEqual(sequence, { tokenIds: [3, 6, 4, 9, end], weights: [0, 0, 0, 1, 1] });
  await assert.rejects(of("xa", "b"), /line 1: the answer's beginning and the prompt's end are one token/);
});

test("a template that refuses a conversation names the line", async () => {
  const source = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}";
  const refusing = await withTemplate(source + templates.chatml);
  const examples = [
    { messages: [user("a"), assistant("b")] },
    { messages: [{ role: "system", content: "s" }, user("a"), assistant("b")] },
  ];
  await assert.rejects(encode("chat", examples, { text: refusing }), /^.*line 2: .*no system role/);
});

test("what another thread cannot encode is its line's fault; that it fails is not", async () => {
  const parts = await loadTextParts(tinyDirectory);
  const failing = (error: Error) => {
    const fail = () => Promise.reject(error);
    return new TextModel(parts, { encode: fail, decode: fail });
  };
  const examples = [
    { prompt: "a", completion: "b" },
    { prompt: "word ".repeat(1000), completion: "b" },
  ];
  // As errors arrive from there: by code, without their class.
  const refused = new RequestError("untokenizable_text", "no token for it");
  await assert.rejects(encode("completion", examples, { text: failing(refused) }), {
    code: "invalid_training_file",
    message: /^line 2: no token for it/,
  });
  const died = new Error("the tokenizer's thread ended");
  await assert.rejects(encode("completion", examples, { text: failing(died) }), died);
});

test("ten lines that cannot be used are told, and nothing behind them is read", async () => {
  const long = { messages: [user("a b c d e f"), assistant("g h i j k l m n o p")] };
  const short = { messages: [user("a"), assistant("b")] };
  const examples = Array.from({ length: 60 }, (_, index) => (index % 3 === 0 ? long : short));
  let lines = 0;
  const giveWay = async () => void lines++;
  await assert.rejects(encode("chat", examples, { maxTokens: 12, giveWay }), {
    code: "invalid_training_file",
    message:
      /^10 lines cannot be used, and those behind them were not read: line 1: .* line 28: [^;]*; shorten it[^;]*$/,
  });
  assert.equal(lines, 28);
});

test("the event loop turns while a file is encoded, and between any two lines it may be ended", async (t) => {
  const examples = Array.from({ length: 400 }, (_, index) => ({
    prompt: `${index} ${"some words of a prompt ".repeat(30)}`,
    completion: "b",
  }));
  let nowMs = 0;
  t.mock.method(performance, "now", () => nowMs);
  let [sinceTurn, mostLines, isOver] = [0, 0, false];
  const onTurn = () => {
    sinceTurn = 0;
    if (!isOver) setImmediate(onTurn);
  };
  setImmediate(onTurn);
  const takeTime = async () => {
    nowMs++; // a line takes so long
    mostLines = Math.max(mostLines, ++sinceTurn);
  };
  await encode("completion", examples, { giveWay: takeTime });
  isOver = true;
  assert.ok(mostLines > 0 && mostLines < 10, `${mostLines} lines of a millisecond each without a turn`);
  let lines = 0;
  const giveWay = async () => {
    if (++lines === 7) throw new Error("gone");
  };
  await assert.rejects(encode("completion", examples, { giveWay }), /gone/);
  assert.equal(lines, 7);
});
