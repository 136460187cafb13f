// At least 10,000 seeded, mutated request bodies against the real application on the real engine: every answer is
// a 2xx or 4xx in OpenAI's shape, in time. FUZZ_SEED repeats or varies a run.

import assert from "node:assert/strict";
import { test } from "node:test";
import { neverAfterMs } from "../until.ts";
import { all, startTiny } from "./start-tiny.ts";

const bodies = 10_000;
const atOnce = 8;
const seed = Number(process.env.FUZZ_SEED ?? 1);

const user = { role: "user", content: "hi" };
const seeds: readonly { readonly path: string; readonly body: Record<string, unknown> }[] = [
  {
    path: "/v1/completions",
    body: {
      model: "tiny",
      prompt: "a",
      max_tokens: 1,
      n: 1,
      stop: ["x"],
      logprobs: 1,
      echo: true,
      seed: 1,
      top_p: 0.5,
    },
  },
  {
    path: "/v1/completions",
    body: { model: "tiny", prompt: [[1, 2], [3]], max_tokens: 1, logit_bias: { 5: 1 }, stream: true },
  },
  {
    path: "/v1/chat/completions",
    body: {
      model: "tiny",
      messages: [user, { role: "assistant", content: [{ type: "text", text: "b" }] }],
      max_tokens: 1,
      top_k: 3,
      min_p: 0.1,
      response_format: { type: "text" },
      tools: [],
    },
  },
  {
    path: "/v1/chat/completions",
    body: {
      model: "tiny:",
      messages: [user],
      max_tokens: 2,
      stream: true,
      stream_options: { include_usage: true },
      logprobs: true,
      top_logprobs: 2,
      chat_template_kwargs: { a: 1 },
    },
  },
  { path: "/tokenize", body: { model: "tiny", messages: [user], add_generation_prompt: true } },
  { path: "/tokenize", body: { prompt: "hello", add_special_tokens: false, return_token_strs: true } },
  { path: "/detokenize", body: { tokens: [1, 2, 300] } },
];

const hostileValues: readonly unknown[] = [
  null,
  true,
  false,
  0,
  -1,
  1,
  0.5,
  1e308,
  -1e308,
  2 ** 53,
  4294967296,
  "",
  " ",
  "tiny",
  "\u0000",
  "\ud83d",
  "🦙",
  "{{ 7 }}",
  "<|end|>",
  "a".repeat(5000),
  [],
  [[]],
  [null],
  [""],
  ["a", 1],
  [1, "a"],
  [-1],
  [2048],
  [1.5],
  {},
  { a: 1 },
  { __proto__: null },
  { role: "user" },
  [user, user],
  [{ type: "text" }],
  "x".repeat(70),
  Array(1100).fill(3),
  { include_usage: "yes" },
  { "5": 101 },
  { "-5": 1 },
]; // prettier-ignore

const strayKeys = [
  "suffix",
  "best_of",
  "tools",
  "user",
  "n",
  "stop",
  "seed",
  "foo",
  "__proto__",
  "constructor",
  "min_tokens",
  "adapter_id",
];

test(`${bodies} mutated bodies never cause a 5xx, a hang or a crash (seed ${seed})`, async () => {
  await using server = await startTiny();
  const random = mulberry32(seed);
  const statuses = new Map<number, number>();
  const send = async () => {
    const { path, init } = mutatedRequest(random);
    const response = await fetch(server.url + path, {
      method: "POST",
      signal: AbortSignal.timeout(neverAfterMs),
      ...init,
    });
    const text = await response.text();
    const sent = () =>
      `${path} ${String(init.body).slice(0, 500)} -> ${response.status} ${text.slice(0, 300)}`;
    assert.ok(response.status < 500, sent());
    if (response.status >= 400) assert.equal(typeof JSON.parse(text).error.code, "string", sent());
    else assert.ok(!text.includes('"internal_error"'), sent());
    statuses.set(response.status, (statuses.get(response.status) ?? 0) + 1);
  };
  let left = bodies;
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      while (left-- > 0) await send();
    }),
  );
  assert.ok((statuses.get(200) ?? 0) > bodies / 100, "nearly nothing was valid: the mutations are too hard");
  assert.ok((statuses.get(400) ?? 0) > bodies / 4);
  // The server is as it was.
  const stream = await server.client.completions.create({
    model: "tiny",
    prompt: "a",
    max_tokens: 2,
    stream: true,
  });
  assert.ok((await all(stream)).length > 0);
});

type Random = () => number; // [0, 1)

function mutatedRequest(random: Random): { readonly path: string; readonly init: RequestInit } {
  if (random() < 0.05) return { path: "/v1/adapters", init: mutatedUpload(random) };
  const { path, body } = pick(random, seeds);
  const mutated = structuredClone(body);
  const changes = 1 + Math.floor(random() * 3);
  for (let change = 0; change < changes; change++) mutateObject(random, mutated);
  limitLength(mutated);
  let text = JSON.stringify(mutated);
  if (random() < 0.15) text = mutateText(random, text);
  const type = random() < 0.02 ? "text/plain" : "application/json";
  return { path, init: { body: text, headers: { "content-type": type } } };
}

/** Changes, removes or adds a value somewhere in the tree. */
function mutateObject(random: Random, target: Record<string, unknown> | unknown[]): void {
  const keys = Object.keys(target);
  const key = random() < 0.15 || keys.length === 0 ? pick(random, strayKeys) : pick(random, keys);
  const container = target as Record<string, unknown>;
  const value = Object.hasOwn(container, key) ? container[key] : undefined;
  if (typeof value === "object" && value !== null && random() < 0.6) {
    return mutateObject(random, value as Record<string, unknown>);
  }
  if (random() < 0.15 && !Array.isArray(target)) delete container[key];
  else
    Object.defineProperty(container, key, {
      value: structuredClone(pick(random, hostileValues)),
      enumerable: true,
      writable: true,
      configurable: true,
    });
}

/** A body that happens to be valid must not generate for long. */
function limitLength(body: Record<string, unknown>): void {
  if (body.max_tokens === null || body.max_tokens === undefined) body.max_tokens = 2;
  if (typeof body.n === "number" && body.n > 8) body.n = 1000;
}

function mutateText(random: Random, text: string): string {
  const at = Math.floor(random() * text.length);
  switch (Math.floor(random() * 4)) {
    case 0:
      return text.slice(0, at);
    case 1:
      return (
        text.slice(0, at) + pick(random, ['"', "}", "[", ",", "\\", "\u0001", "e9", "NaN"]) + text.slice(at)
      );
    case 2:
      return text.slice(0, at) + text.slice(at + 1);
    default:
      return "[".repeat(1 + Math.floor(random() * 20_000)) + text;
  }
}

function mutatedUpload(random: Random): RequestInit {
  const config = pick(random, [
    "{}",
    "{",
    "null",
    '{"peft_type":"LORA","r":4,"lora_alpha":8,"target_modules":["q_proj"]}',
    "\0",
  ]);
  const weights = pick(random, [
    "",
    "\0".repeat(8),
    "\x08\0\0\0\0\0\0\0{}      ",
    "\xff".repeat(64),
    "x".repeat(4096),
  ]);
  const part = (name: string, file: string, content: string) =>
    `--b\r\ncontent-disposition: form-data; name="${name}"${file}\r\n\r\n${content}\r\n`;
  const parts = [
    part("id", "", pick(random, ["fuzz", "", "../x", "tiny", "a:b", "a".repeat(3000)])),
    part("files", pick(random, ['; filename="adapter_config.json"', '; filename="../up"', ""]), config),
    part("files", '; filename="adapter_model.safetensors"', weights),
    part(pick(random, ["files", "id", "foo"]), '; filename="README.md"', "hello"),
  ].filter(() => random() < 0.85);
  const body = mutateSometimes(random, `${parts.join("")}--b--\r\n`);
  const type = pick(random, [
    "multipart/form-data; boundary=b",
    'multipart/form-data; boundary="b"',
    "multipart/form-data",
    "application/json",
  ]);
  return { body: Buffer.from(body, "latin1"), headers: { "content-type": type } };
}

function mutateSometimes(random: Random, text: string): string {
  return random() < 0.3 ? mutateText(random, text) : text;
}

function pick<T>(random: Random, from: readonly T[]): T {
  return from[Math.floor(random() * from.length)]!;
}

/** A small seeded generator (Tommy Ettinger's mulberry32). */
function mulberry32(start: number): Random {
  let state = start >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let bits = Math.imul(state ^ (state >>> 15), state | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return ((bits ^ (bits >>> 14)) >>> 0) / 4294967296;
  };
}
