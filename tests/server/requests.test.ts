// Statuses and error bodies that have nothing to do with generating.

import assert from "node:assert/strict";
import { test } from "node:test";
import { endpoints } from "../../server/endpoints/index.ts";
import { Readiness } from "../../server/readiness.ts";
import { errorOf, scriptedApp, writes } from "./scripted-app.ts";

const app = () => scriptedApp((text) => writes(text, "a"));

type OpenApi = {
  readonly paths: Record<string, Record<string, { readonly summary: string }>>;
  readonly components: { readonly schemas: Record<string, { readonly properties: Record<string, unknown> }> };
};

type Refusal = {
  readonly path?: string;
  readonly body: unknown;
  readonly param: string | null;
  readonly code?: string;
};

const user = { role: "user", content: "x" };
const chat = "/v1/chat/completions";

const refusals: Record<string, Refusal> = {
  "a missing prompt": { body: { model: "tiny" }, param: "prompt" },
  "an empty prompt": { body: { model: "tiny", prompt: "" }, param: "prompt" },
  "an empty prompt list": { body: { model: "tiny", prompt: [] }, param: "prompt" },
  "a bad token id": { body: { model: "tiny", prompt: [[1], [2, -1]] }, param: "prompt[1][1]" },
  "a token id outside the vocabulary": { body: { model: "tiny", prompt: [[1], [5000]] }, param: "prompt[1]" },
  "an unknown field": {
    body: { model: "tiny", prompt: "x", tempo: 1 },
    param: "tempo",
    code: "unknown_parameter",
  },
  "a field without effect here": {
    body: { model: "tiny", prompt: "x", suffix: "y" },
    param: "suffix",
    code: "unsupported_parameter",
  },
  "best_of other than n": {
    body: { model: "tiny", prompt: "x", best_of: 2 },
    param: "best_of",
    code: "unsupported_parameter",
  },
  "seventeen stops": { body: { model: "tiny", prompt: "x", stop: Array(17).fill("a") }, param: "stop" },
  "an empty stop": { body: { model: "tiny", prompt: "x", stop: ["a", ""] }, param: "stop[1]" },
  "a hot temperature": { body: { model: "tiny", prompt: "x", temperature: 2.5 }, param: "temperature" },
  "a biased unknown token": {
    body: { model: "tiny", prompt: "x", logit_bias: { 9999: 1 } },
    param: "logit_bias",
  },
  "min_tokens above max_tokens": {
    body: { model: "tiny", prompt: "x", min_tokens: 5, max_tokens: 4 },
    param: "min_tokens",
  },
  "half a surrogate pair": { body: { model: "tiny", prompt: "\ud83e" }, param: "prompt" },
  "content that is no text": {
    path: chat,
    body: { model: "tiny", messages: [user, { role: "user", content: 7 }] },
    param: "messages[1].content",
  },
  "a picture": {
    path: chat,
    body: { model: "tiny", messages: [{ role: "user", content: [{ type: "image_url" }] }] },
    param: "messages[0].content[0].type",
  },
  "an unknown message field": {
    path: chat,
    body: { model: "tiny", messages: [{ ...user, mood: 1 }] },
    param: "messages[0].mood",
    code: "unknown_parameter",
  },
  tools: {
    path: chat,
    body: { model: "tiny", messages: [user], tools: [{}] },
    param: "tools",
    code: "unsupported_parameter",
  },
  "JSON mode": {
    path: chat,
    body: { model: "tiny", messages: [user], response_format: { type: "json_object" } },
    param: "response_format",
    code: "unsupported_parameter",
  },
  "top_logprobs alone": {
    path: chat,
    body: { model: "tiny", messages: [user], top_logprobs: 2 },
    param: "top_logprobs",
  },
  "two lengths": {
    path: chat,
    body: { model: "tiny", messages: [user], max_tokens: 2, max_completion_tokens: 3 },
    param: "max_completion_tokens",
  },
  "too long": {
    body: { model: "tiny", prompt: "x", max_tokens: 4000 },
    param: "prompt",
    code: "context_length_exceeded",
  },
  "stream_options alone": {
    body: { model: "tiny", prompt: "x", stream_options: {} },
    param: "stream_options",
  },
  "broken JSON": { body: "{", param: null, code: "malformed_json" },
  "prompt and messages": { path: "/tokenize", body: { prompt: "x", messages: [user] }, param: "prompt" },
  "ids that are none": { path: "/detokenize", body: { tokens: [1, "2"] }, param: "tokens[1]" },
};

for (const [name, { path = "/v1/completions", body, param, code = "invalid_value" }] of Object.entries(
  refusals,
)) {
  test(`400 names the field: ${name}`, async () => {
    const response = await (await app()).post(path, body);
    const error = await errorOf(response);
    assert.equal(response.status, 400, error.message);
    assert.deepEqual({ param: error.param, code: error.code }, { param, code });
    assert.equal(error.type, "invalid_request_error");
  });
}

test("fields that mean nothing here are accepted at their neutral values", async () => {
  const neutral = {
    user: "u",
    metadata: { a: "b" },
    store: false,
    tools: [],
    tool_choice: "none",
    response_format: { type: "text" },
  };
  const response = await (await app()).post(chat, { model: "tiny", messages: [user], ...neutral });
  assert.equal(response.status, 200);
});

test("an over-long prompt is refused with both numbers", async () => {
  const response = await (await app()).post("/v1/completions", {
    model: "tiny",
    prompt: Array(2000).fill(7),
  });
  const error = await errorOf(response);
  assert.match(error.message, /1024 tokens.*2000 in the prompt/);
});

test("unknown model, route, method, media type, size", async () => {
  const { app: hono, post } = await app();
  const unknown = await post("/v1/completions", { model: "nobody", prompt: "x" });
  assert.equal(unknown.status, 404);
  const error = await errorOf(unknown);
  assert.equal(error.code, "model_not_found");
  assert.match(error.message, /`nobody`/);
  assert.equal((await hono.request("/v1/nothing")).status, 404);
  const wrongMethod = await hono.request("/v1/completions");
  assert.equal(wrongMethod.status, 405);
  assert.equal(wrongMethod.headers.get("allow"), "POST");
  assert.equal(
    (await post("/v1/completions", "{}", { headers: { "content-type": "text/plain" } })).status,
    415,
  );
  assert.equal((await post("/v1/completions", " ".repeat(5 * 1024 * 1024))).status, 413);
});

test("x-request-id is honoured when sane and made when not", async () => {
  const { app: hono } = await app();
  const idOf = async (id: string) =>
    (await hono.request("/health", { headers: { "x-request-id": id } })).headers.get("x-request-id");
  assert.equal(await idOf("trace-7"), "trace-7");
  assert.match((await idOf("x".repeat(129)))!, /^[0-9a-f-]{36}$/);
  assert.match((await idOf("two words"))!, /^[0-9a-f-]{36}$/);
});

test("before the engine is ready /health lives, /ready says why not, and generation waits with 503", async () => {
  const { app: hono, readiness, post } = await app();
  readiness.transition({ name: "closing" });
  assert.equal((await hono.request("/health")).status, 200);
  assert.equal((await hono.request("/ready")).status, 503);
  const response = await post("/v1/completions", { model: "tiny", prompt: "x" });
  assert.equal(response.status, 503);
  assert.equal((await errorOf(response)).code, "not_ready");
});

test("readiness goes only forward", () => {
  const readiness = new Readiness<null>();
  assert.equal(readiness.obstacle, "loading");
  readiness.transition({ name: "loading", progress: { stage: "weights", done: 1, total: 3 } });
  assert.equal(readiness.obstacle, "loading: weights 1/3");
  readiness.transition({ name: "ready", serving: null });
  assert.equal(readiness.obstacle, null);
  assert.throws(() => readiness.transition({ name: "loading", progress: null }), {
    code: "invalid_transition",
  });
});

test("/openapi.json describes every endpoint of the registry, and bodies by their schemas", async () => {
  const { app: main, admin } = await app();
  const documentOf = async (hono: typeof main) =>
    (await (await hono.request("/openapi.json")).json()) as OpenApi;
  const document = await documentOf(main);
  const ofAdmin = await documentOf(admin);
  for (const { method, path, summary, listener } of Object.values(endpoints)) {
    const described = (listener === "admin" ? ofAdmin : document).paths[path]?.[method];
    assert.equal(described?.summary, summary);
  }
  assert.ok(document.components.schemas.ChatCompletionRequest?.properties.messages);
});

test("once the engine is dead /health says so, for a restart", async () => {
  const { app: hono, readiness } = await app();
  readiness.transition({ name: "failed", reason: "the engine thread ended" });
  const response = await hono.request("/health");
  assert.equal(response.status, 503);
  assert.match((await errorOf(response)).message, /engine thread ended/);
});

const many = (count: number, member: string) => Array(count).fill(member).join(",");

const huge: Record<string, { readonly path: string; readonly body: string }> = {
  messages: { path: chat, body: `{"model":"tiny","messages":[${many(1_900_000, "1")}]}` },
  tokens: { path: "/detokenize", body: `{"tokens":[${many(1_300_000, "{}")}]}` },
  stop: { path: "/v1/completions", body: `{"model":"tiny","prompt":"x","stop":[${many(1_900_000, "1")}]}` },
  prompt: { path: "/v1/completions", body: `{"model":"tiny","prompt":[${many(1_900_000, "1")}]}` },
};

for (const [param, { path, body }] of Object.entries(huge)) {
  test(`millions of wrong members are one refusal: ${param}`, async () => {
    const response = await (await app()).post(path, body);
    assert.equal(response.status, 400);
    assert.equal((await errorOf(response)).param, param);
  });
}
