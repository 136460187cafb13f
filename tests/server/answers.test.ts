// What answers take of the server's memory: refused before the work where they could be too large or are too many,
// written as they are read, and bounded where nobody reads.

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { Allowance } from "../../adapters-store/allowance.ts";
import type { TokenLogprob } from "../../scheduler/protocol.ts";
import type { CompletionAnswer } from "../../server/endpoints/completions-contract.ts";
import { completionOf, errorOf, finished, readEvents, type Script, scriptedApp } from "./scripted-app.ts";

const prompt = { model: "tiny", prompt: "x", max_tokens: 500 };

const logprobOf = (tokenId: number): TokenLogprob => ({
  tokenId,
  logprob: -tokenId / 1000,
  top: Array.from({ length: 20 }, (_, at) => [(tokenId + at) % 2000, -at - 0.5] as const),
});

/** All of max_tokens, once it may. */
function writesWhen(mayWrite: Promise<void>): Script {
  return async function* ({ maxTokens, promptTokenIds, logprobs, promptLogprobs }, signal) {
    await mayWrite;
    if (promptLogprobs !== null) {
      const [, ...scored] = promptTokenIds;
      yield { type: "prompt", logprobs: [null, ...scored.map(logprobOf)] };
    }
    for (let index = 0; index < maxTokens; index++) {
      signal.throwIfAborted();
      const tokenId = 300 + (index % 1000);
      yield { type: "token", tokenId, logprob: logprobs === null ? null : logprobOf(tokenId) };
    }
    yield finished("length");
  };
}

const atOnce = writesWhen(Promise.resolve());

test("an answer that could be more than a tenant's part is refused, with what it grows with and the limit", async () => {
  const { post, requests } = await scriptedApp(() => atOnce);
  const body = { ...prompt, prompt: Array(8).fill("x"), n: 100, logprobs: 20 };
  const cases = [body, { ...body, prompt: Array(8).fill([...Array(900).keys()]), max_tokens: 0, echo: true }];
  for (const each of cases) {
    const response = await post("/v1/completions", each);
    assert.equal(response.status, 400);
    const { code, message } = await errorOf(response);
    assert.equal(code, "answer_too_large");
    assert.match(message, /33554432.*\bn\b.*max_tokens.*echo.*logprobs/);
  }
  assert.equal(requests.length, 0);
  const streamed = await post("/v1/completions", { ...body, stream: true }); // it is read as it is written
  assert.equal(streamed.status, 200);
  await streamed.body!.cancel();
});

test("answers that do not fit together are refused before the work, and fit one after the other", async () => {
  const written = Promise.withResolvers<void>();
  const answers = new Allowance({ inAll: 1_000_000, perOwner: 1_000_000 });
  const { post, requests } = await scriptedApp(() => writesWhen(written.promise), { answers });
  const body = { ...prompt, n: 4, logprobs: 20 };
  const first = post("/v1/completions", body);
  while (requests.length < 4) await nextTurn();
  const refused = await post("/v1/completions", body);
  assert.equal(refused.status, 429);
  assert.equal(refused.headers.get("retry-after"), "1");
  assert.equal((await errorOf(refused)).code, "answers_too_many");
  assert.equal(requests.length, 4);
  const small = post("/v1/completions", prompt);
  written.resolve();
  assert.equal((await small).status, 200);
  const response = await first;
  assert.equal((await post("/v1/completions", body)).status, 429); // the first one is still being sent
  await response.text();
  await (await post("/v1/completions", body)).body!.cancel();
  using whole = answers.share("another");
  assert.ok(whole.growTo(1_000_000));
});

test("a long answer is what its stream says, in parts", async () => {
  const { post, text } = await scriptedApp(() => atOnce);
  const texts = ["a b c", "d"];
  const body = { ...prompt, prompt: texts, n: 2, logprobs: 20, echo: true };
  const response = await post("/v1/completions", body);
  const lengths: number[] = [];
  let received = "";
  for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
    lengths.push(part.length);
    received += part;
  }
  assert.ok(lengths.length > 5 && Math.max(...lengths) < 100_000);
  const answer = JSON.parse(received) as CompletionAnswer;
  const events = (await readEvents(await post("/v1/completions", { ...body, stream: true }))).slice(0, -1);
  const chunks = (events as CompletionAnswer[]).flatMap(({ choices }) => choices);
  for (const { index, text: whole, logprobs, finish_reason } of answer.choices) {
    const own = chunks.filter((chunk) => chunk.index === index);
    assert.equal(whole, own.map((chunk) => chunk.text).join(""));
    assert.equal(finish_reason, "length");
    for (const list of ["tokens", "token_logprobs", "top_logprobs", "text_offset"] as const) {
      const streamed: unknown[] = own.flatMap((chunk): unknown[] => chunk.logprobs?.[list] ?? []);
      assert.deepEqual(logprobs![list], streamed);
    }
    const promptTokens = text.tokenizer.encode(texts[Math.floor(index / 2)]!, { addSpecialTokens: true });
    assert.equal(logprobs!.tokens.length, promptTokens.length + prompt.max_tokens);
  }
});

test("a stream that nobody reads ends once it has had its part of the memory", async () => {
  const stopped = Promise.withResolvers<void>();
  let written = 0;
  const endless: Script = async function* (_, signal) {
    signal.addEventListener("abort", () => stopped.resolve());
    try {
      for (;;) {
        if (++written % 100 === 0) await nextTurn();
        yield { type: "token", tokenId: 100, logprob: null };
      }
    } finally {
      stopped.resolve();
    }
  };
  const answers = new Allowance({ inAll: 100_000, perOwner: 100_000 });
  const { post } = await scriptedApp(() => endless, { answers });
  const response = await post("/v1/completions", { ...prompt, max_tokens: 1000, stream: true });
  await stopped.promise;
  assert.ok(written < 1000, `${written} tokens wait`);
  const events = await readEvents(response);
  assert.equal(events.pop(), "[DONE]");
  assert.equal((events.pop() as { error: { code: string } }).error.code, "answers_too_many");
  assert.ok(events.length > 200); // what was written before is not lost
  using whole = answers.share("another");
  assert.ok(whole.growTo(100_000));
});

test("a large body's share is given back once it is encoded, however long its answer takes", async () => {
  const written = Promise.withResolvers<void>();
  const { post, requests } = await scriptedApp(() => writesWhen(written.promise));
  const body = { ...prompt, metadata: { padding: "x".repeat(3_000_000) } };
  const messages = [{ role: "user", content: "x" }];
  const asked: Promise<Response>[] = [];
  for (let index = 0; index < 6; index++) {
    const isChat = index % 2 === 1;
    const { prompt: _, ...chat } = body;
    asked.push(isChat ? post("/v1/chat/completions", { ...chat, messages }) : post("/v1/completions", body));
    while (requests.length === index) {
      await nextTurn();
      assert.ok(await isPending(asked.at(-1)!), "it was refused");
    }
  }
  written.resolve();
  for (const response of await Promise.all(asked)) assert.equal(response.status, 200);
});

async function isPending(promise: Promise<unknown>): Promise<boolean> {
  const pending = Symbol("pending");
  return (await Promise.race([promise, pending])) === pending;
}

test("a prompt of token ids is decoded once for all its choices, and not for nothing", async () => {
  const { post, text } = await scriptedApp(() => atOnce);
  const decode = mock.method(text.tokenizer, "decode");
  const tokenIds = text.tokenizer.encode("one two", { addSpecialTokens: false });
  const body = { ...prompt, prompt: [tokenIds, tokenIds], n: 8, echo: true, max_tokens: 2 };
  assert.equal((await post("/v1/completions", { ...body, max_tokens: 5000 })).status, 400);
  assert.equal(decode.mock.callCount(), 0);
  const { choices } = await completionOf(await post("/v1/completions", body));
  assert.ok(choices.every(({ text }) => text.startsWith("one two")));
  assert.equal(decode.mock.callCount(), 2);
});

test("a text that cannot fit is refused without being encoded", async () => {
  const { post, text, requests } = await scriptedApp(() => atOnce);
  const encode = mock.method(text.tokenizer, "encode");
  const long = "word ".repeat(10_000);
  const { model } = prompt;
  const asked = [
    post("/v1/completions", { ...prompt, prompt: long }),
    post("/v1/chat/completions", { model, messages: [{ role: "user", content: long }] }),
  ];
  for (const response of await Promise.all(asked)) {
    assert.equal(response.status, 400);
    const { code, message } = await errorOf(response);
    assert.equal(code, "context_length_exceeded");
    assert.match(message, /maximum context length is 1024 tokens.* at least \d+ tokens/);
  }
  assert.equal(encode.mock.callCount() + requests.length, 0);
  assert.equal((await post("/tokenize", { prompt: long })).status, 200); // who asks how long it is may know
});

test("more tokens than /tokenize answers with are refused, without being encoded where that is certain", async () => {
  const { post, text } = await scriptedApp(() => atOnce);
  const encode = mock.method(text.tokenizer, "encode");
  const maximum = 131_072;
  const certain = "a".repeat(2_000_000); // no token has more than 13 of them
  const uncertain = "\u{1f600}".repeat(maximum / 2); // of four bytes each, which are as many tokens
  for (const [content, calls] of [[certain, 0] as const, [uncertain, 1] as const]) {
    encode.mock.resetCalls();
    const user = { role: "user", content: [{ type: "text", text: content }] };
    for (const body of [{ prompt: content }, { messages: [user] }]) {
      const response = await post("/tokenize", body);
      assert.equal(response.status, 400);
      const { code, param, message } = await errorOf(response);
      assert.deepEqual([code, param], ["invalid_value", Object.keys(body)[0]]);
      assert.match(message, /more than 131072 tokens; send it in parts/);
    }
    assert.equal(encode.mock.callCount(), 2 * calls);
  }
});
