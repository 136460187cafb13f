import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { InvalidTrainingFileError } from "./training-file-errors.ts";
import { takeExamples } from "./training-intake.ts";
import { lineLimitBytes } from "./training-lines.ts";

let directory: string;
let made = 0;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "cotenant-intake-"));
});

after(() => rm(directory, { recursive: true }));

const user = (content: string) => ({ role: "user", content });
const assistant = (content: string, weight?: number) => ({
  role: "assistant",
  content,
  ...(weight !== undefined && { weight }),
});
const chat = (...messages: unknown[]) => ({ messages });
const good = chat(user("a"), assistant("b"));
const preference = {
  input: { messages: [user("a")] },
  preferred_output: [assistant("b")],
  non_preferred_output: [assistant("c")],
};

function take(bytes: Uint8Array, chunkBytes = 2 ** 16) {
  const path = join(directory, String(made++));
  async function* chunks() {
    for (let start = 0; start < bytes.length; start += chunkBytes)
      yield bytes.subarray(start, start + chunkBytes);
  }
  return takeExamples(chunks(), { path, onBytes: () => {} }).then(async (examined) => {
    assert.deepEqual(await readFile(path), Buffer.from(bytes));
    return examined;
  });
}

async function refusal(bytes: Uint8Array | string, chunkBytes?: number): Promise<string> {
  try {
    await take(Buffer.from(bytes), chunkBytes);
  } catch (error) {
    assert.ok(error instanceof InvalidTrainingFileError, String(error));
    return error.message;
  }
  assert.fail("it was accepted");
}

const jsonl = (...examples: unknown[]) => examples.map((example) => JSON.stringify(example)).join("\n");

const filled = fc.string({ unit: "grapheme", minLength: 1 }).filter((text) => text.trim() !== "");
const anyText = fc.string({ unit: "grapheme" });
const anyMessage = fc.oneof(
  fc.record({ role: fc.constantFrom("system", "developer", "user"), content: anyText }),
  fc.record(
    { role: fc.constant("assistant"), content: filled, weight: fc.constantFrom(0, 1) },
    { requiredKeys: ["role", "content"] },
  ),
);
const answer = filled.map((content) => [assistant(content)]);
const formats = {
  chat: fc
    .tuple(fc.array(anyMessage, { maxLength: 4 }), filled)
    .map(([messages, last]) => chat(...messages, assistant(last))),
  completion: fc.record({ prompt: anyText, completion: fc.string({ unit: "grapheme", minLength: 1 }) }),
  preference: fc.record({
    input: fc.record({ messages: fc.array(anyMessage, { minLength: 1, maxLength: 3 }).map(withoutWeights) }),
    preferred_output: answer,
    non_preferred_output: answer,
  }),
};

function withoutWeights(messages: readonly object[]): object[] {
  return messages.map((message) => ({ ...message, weight: undefined }));
}

const anyFile = fc.constantFrom(...(Object.keys(formats) as (keyof typeof formats)[])).chain((format) =>
  fc.record({
    format: fc.constant(format),
    examples: fc.array(formats[format] as fc.Arbitrary<object>, { minLength: 1, maxLength: 6 }),
    lineEnd: fc.constantFrom("\n", "\r\n", "\n\n", "\n \t\n"),
    endsOpen: fc.boolean(),
    chunkBytes: fc.integer({ min: 1, max: 200 }),
  }),
);

test("any file of one format is taken, however it is cut on the way", async () => {
  await fc.assert(
    fc.asyncProperty(anyFile, async ({ format, examples, lineEnd, endsOpen, chunkBytes }) => {
      const text =
        examples.map((example) => JSON.stringify(example)).join(lineEnd) + (endsOpen ? "" : lineEnd);
      const bytes = Buffer.from(text);
      assert.deepEqual(await take(bytes, chunkBytes), {
        bytes: bytes.length,
        format,
        examples: examples.length,
      });
    }),
    { numRuns: 60 },
  );
});

test("one spoilt line among good ones is named by its number", async () => {
  const spoilers = [
    (line: string) => Buffer.from(line.slice(0, -1)), // its end is missing
    (line: string) => Buffer.from(line.replace("{", '{"colour":"red",')),
    (line: string) => Buffer.concat([Buffer.from(line.slice(0, -1)), Buffer.from([0xff]), Buffer.from("}")]),
    () => Buffer.from("[]"),
    () => Buffer.from('{"text": "a"}'),
  ];
  const cases = fc.record({
    file: anyFile,
    at: fc.nat(),
    spoil: fc.constantFrom(...spoilers),
  });
  await fc.assert(
    fc.asyncProperty(cases, async ({ file: { examples, lineEnd, chunkBytes }, at, spoil }) => {
      const spoilt = at % examples.length;
      const lines = examples.map((example, index) => {
        const line = JSON.stringify(example);
        return Buffer.concat([index === spoilt ? spoil(line) : Buffer.from(line), Buffer.from(lineEnd)]);
      });
      const number = 1 + spoilt * (lineEnd.match(/\n/g) ?? []).length;
      assert.match(await refusal(Buffer.concat(lines), chunkBytes), new RegExp(`^line ${number}: `));
    }),
    { numRuns: 60 },
  );
});

const refused: readonly [name: string, line: unknown, message: RegExp][] = [
  ["no messages", chat(), /messages: must end with a message of the assistant/],
  ["no assistant", chat(user("a")), /messages: must end with a message of the assistant/],
  ["a user last", chat(assistant("b"), user("a")), /messages: must end with a message of the assistant/],
  ["nothing learned", chat(user("a"), assistant("b", 0)), /messages: has no message .* weight other than 0/],
  ["an empty answer", chat(user("a"), assistant(" ")), /messages\[1\]\.content: is empty/],
  ["a half weight", chat(user("a"), assistant("b", 0.5)), /messages\[1\]\.weight: must be 0 or 1/],
  ["a user's weight", chat({ ...user("a"), weight: 1 }, assistant("b")), /messages\[0\]\.weight: belongs to/],
  ["a number", chat(user("a"), { role: "assistant", content: 7 }), /messages\[1\]\.content: .*string/],
  ["no content", chat({ role: "user" }, assistant("b")), /messages\[0\]\.content: is missing$/],
  ["an unknown role", chat({ role: "tool", content: "a" }, assistant("b")), /messages\[0\]\.role: /],
  ["tools", { ...good, tools: [{ type: "function" }] }, /tools is not supported: /],
  [
    "tool calls",
    chat(user("a"), { ...assistant("b"), tool_calls: [{}] }),
    /messages\[1\]\.tool_calls is not supp/,
  ],
  ["an unknown field", { ...good, completion: "b" }, /line 1: completion is no field of a chat example/],
  [
    "many messages",
    chat(...Array(1000).fill(user("a")), assistant("b")),
    /messages: has more than 1000 members/,
  ],
  [
    "half a character",
    chat(user("a"), assistant("b\ud800")),
    /messages\[1\]\.content: holds an unpaired surrogate/,
  ],
  ["no completion", { prompt: "a" }, /completion: is missing$/],
  ["an empty completion", { prompt: "a", completion: "" }, /completion: is empty/],
  ["no prompt", { completion: "a" }, /prompt: is missing$/],
  ["one output", { ...preference, non_preferred_output: undefined }, /non_preferred_output: /],
  [
    "two messages in one output",
    { ...preference, preferred_output: [assistant("a"), assistant("b")] },
    /preferred_output: must hold one message/,
  ],
  ["a user's output", { ...preference, preferred_output: [user("a")] }, /preferred_output\[0\]\.role: /],
  [
    "an empty output",
    { ...preference, preferred_output: [assistant("")] },
    /preferred_output\[0\]\.content: is empty/,
  ],
  ["no input messages", { ...preference, input: { messages: [] } }, /input\.messages: has no message/],
  [
    "a weight in the input",
    { ...preference, input: { messages: [assistant("a", 1)] } },
    /input\.messages\[0\]\.weight is no field/,
  ],
  ["no format", { text: "a" }, /is no example/],
  ["a list", [good], /is not a JSON object/],
  ["null", null, /is not a JSON object/],
];

for (const [name, line, message] of refused) {
  test(`refused: ${name}`, async () => {
    const told = await refusal(jsonl(line));
    assert.match(told, /^line 1: /);
    assert.match(told, message);
  });
}

test("refused: bytes that are no lines of JSON", async () => {
  const bytes = Buffer.from(jsonl(good));
  const cases: [Buffer | string, RegExp][] = [
    ["", /the file has no example/],
    ["\n \r\n\n", /the file has no example/],
    [`\uFEFF${jsonl(good)}`, /^line 1: begins with a byte order mark/],
    [Buffer.from(jsonl(good), "utf16le"), /^(2 lines|line 1)/],
    [Buffer.concat([bytes, Buffer.from("\n\xff\n", "latin1")]), /^line 2: is not UTF-8$/],
    [
      jsonl(good, { prompt: "a", completion: "b" }),
      /^line 2: is a completion example in a file that began with chat/,
    ],
  ];
  for (const [content, message] of cases) assert.match(await refusal(content), message);
});

test("a line may have 1 MiB and no more; what follows it is read on", async () => {
  const empty = JSON.stringify({ prompt: "", completion: "b" });
  const sized = (bytes: number) =>
    JSON.stringify({ prompt: "a".repeat(bytes - empty.length), completion: "b" });
  assert.equal((await take(Buffer.from(`${sized(lineLimitBytes)}\n${empty}`))).examples, 2);
  const told = await refusal(`${empty}\n${sized(lineLimitBytes + 1)}\n${empty}\n{`);
  assert.match(told, /line 2: is longer than 1048576 bytes; cut the example; line 4: is not valid JSON$/);
});

test("of many bad lines the first ten are told and all are counted", async () => {
  const told = await refusal(jsonl(...Array(25).fill({ ["k".repeat(2000)]: 1, prompt: "a" })));
  assert.match(told, /^25 lines cannot be used, the first 10 of them: line 1: /);
  assert.match(told, /line 10: /);
  assert.doesNotMatch(told, /line 11: /);
  assert.ok(told.length < 4000);
});
