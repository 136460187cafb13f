// What HTTP and text do with given tokens: stop strings held back, failures on the way, clients that leave.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { CotenantError } from "../../kernels/errors.ts";
import { TextModel } from "../../server/text/text-model.ts";
import {
  completionOf,
  errorOf,
  finished,
  readEvents,
  type Script,
  scriptedApp,
  writes,
} from "./scripted-app.ts";

type Chunk = {
  readonly choices: readonly { readonly text: string; readonly finish_reason: string | null }[];
};

const prompt = { model: "tiny", prompt: "x", max_tokens: 100 };

test("a stop string across tokens is never seen, and what only looked like one is", async () => {
  const { post } = await scriptedApp((text) => writes(text, "one <s two <stop> three"));
  const events = await readEvents(await post("/v1/completions", { ...prompt, stop: "<stop>", stream: true }));
  assert.equal(events.pop(), "[DONE]");
  const chunks = events as Chunk[];
  const texts = chunks.map(({ choices }) => choices[0]!.text);
  assert.equal(texts.join(""), "one <s two ");
  let shown = "";
  for (const text of texts) {
    shown += text;
    assert.ok("one <s two ".startsWith(shown));
  }
  assert.equal(chunks.at(-1)!.choices[0]!.finish_reason, "stop");
});

test("include_stop_str_in_output keeps it, and stop_reason names it", async () => {
  const { post } = await scriptedApp((text) => writes(text, "one two three"));
  const body = { ...prompt, stop: ["zzz", " two"], include_stop_str_in_output: true };
  const answer = await completionOf(await post("/v1/completions", body));
  assert.equal(answer.choices[0]!.text, "one two");
  assert.equal(answer.choices[0]!.stop_reason, " two");
});

test("stop strings do not count before min_tokens", async () => {
  const { post, text } = await scriptedApp((text) => writes(text, "ab ab ab"));
  const tokens = text.tokenizer.encode("ab ab ab", { addSpecialTokens: false }).length;
  const answer = await completionOf(
    await post("/v1/completions", { ...prompt, stop: "ab", min_tokens: tokens }),
  );
  assert.equal(answer.choices[0]!.text, "ab ab ab");
});

test("usage counts the token that ended the text, as vLLM does", async () => {
  const { post, text } = await scriptedApp((text) => writes(text, "one two"));
  const written = text.tokenizer.encode("one two", { addSpecialTokens: false }).length;
  const answer = await completionOf(await post("/v1/completions", prompt));
  assert.deepEqual(answer.usage, {
    prompt_tokens: 1,
    completion_tokens: written + 1,
    total_tokens: written + 2,
    prompt_tokens_details: { cached_tokens: 0 },
  });
});

test("a failure on the way is an error event, then the end", async () => {
  const failing: Script = async function* () {
    yield { type: "token", tokenId: 100, logprob: null };
    throw new CotenantError("engine_failed", "the engine thread ended; restart the server");
  };
  const { post } = await scriptedApp(() => failing);
  const response = await post("/v1/completions", { ...prompt, stream: true });
  assert.equal(response.status, 200);
  const events = await readEvents(response);
  assert.equal((events.at(-2) as { error: { code: string } }).error.code, "engine_failed");
  assert.equal(events.at(-1), "[DONE]");
});

test("a refusal before the first token has its own status, streaming or not", async () => {
  const refusing: Script = () => {
    throw new CotenantError("queue_full", "the queue is full; try again later");
  };
  const { post } = await scriptedApp(() => refusing);
  for (const stream of [false, true]) {
    const response = await post("/v1/completions", { ...prompt, stream });
    assert.equal(response.status, 429);
    assert.equal(response.headers.get("retry-after"), "1");
    assert.equal((await errorOf(response)).code, "queue_full");
  }
});

test("an unforeseen error is a 500 that says nothing of its cause", async () => {
  const broken: Script = () => {
    throw new TypeError("secret of the engine");
  };
  const { post } = await scriptedApp(() => broken);
  const response = await post("/v1/completions", prompt);
  assert.equal(response.status, 500);
  const body = await response.text();
  assert.ok(body.includes("internal_error") && !body.includes("secret"));
});

/** Yields tokens until it is aborted, and tells so. */
function endless(): { readonly script: Script; readonly aborted: Promise<void> } {
  const aborted = Promise.withResolvers<void>();
  const script: Script = async function* (_, signal) {
    signal.addEventListener("abort", () => aborted.resolve());
    for (;;) {
      await delay(1, undefined, { signal });
      yield { type: "token", tokenId: 100, logprob: null };
    }
  };
  return { script, aborted: aborted.promise };
}

test("a client that leaves a stream aborts the engine's request", async () => {
  const { script, aborted } = endless();
  const { post } = await scriptedApp(() => script);
  const response = await post("/v1/completions", { ...prompt, stream: true });
  const reader = response.body!.getReader();
  await reader.read();
  await reader.cancel();
  await aborted;
});

test("a client that leaves before its whole answer aborts every choice", async () => {
  const { script, aborted } = endless();
  const { post, requests } = await scriptedApp(() => script);
  const leaving = new AbortController();
  const answer = post("/v1/completions", { ...prompt, n: 3 }, { signal: leaving.signal });
  while (requests.length < 3) await delay(1);
  leaving.abort();
  await aborted;
  assert.equal((await answer).status, 499);
});

test("a stop string aborts the engine's request too", async () => {
  const { script, aborted } = endless();
  const { post, text } = await scriptedApp(() => script);
  const stop = text.tokenizer.decode([100], { skipSpecialTokens: true });
  const answer = await completionOf(await post("/v1/completions", { ...prompt, stop }));
  assert.equal(answer.choices[0]!.finish_reason, "stop");
  await aborted;
});

test("without a tokenizer token ids still work, and text is refused with the remedy", async () => {
  const tokenIds: Script = async function* () {
    yield { type: "token", tokenId: 7, logprob: null };
    yield finished("length");
  };
  const { post } = await scriptedApp(() => tokenIds, {
    text: new TextModel({ tokenizer: null, template: null }),
  });
  const answer = await completionOf(await post("/v1/completions", { ...prompt, prompt: [1, 2, 3] }));
  assert.deepEqual(answer.choices[0]!.token_ids, [7]);
  assert.equal((await errorOf(await post("/v1/completions", prompt))).code, "tokenizer_missing");
});

test("without a chat template chat is refused by name", async () => {
  const { text } = await scriptedApp((text) => writes(text, ""));
  const bare = new TextModel({ tokenizer: text.tokenizer, template: null });
  const { post } = await scriptedApp((text) => writes(text, ""), { text: bare });
  const response = await post("/v1/chat/completions", {
    model: "tiny",
    messages: [{ role: "user", content: "x" }],
  });
  assert.equal(response.status, 400);
  assert.equal((await errorOf(response)).code, "chat_template_missing");
});

test("n choices have seeds of their own, prompts of a list have indexes in order", async () => {
  const { post, requests } = await scriptedApp((text) => writes(text, "a"));
  const body = { ...prompt, prompt: ["x", "y"], n: 2, seed: 2 ** 32 - 1 };
  const answer = await completionOf(await post("/v1/completions", body));
  assert.deepEqual(
    requests.map(({ sampling }) => sampling.seed),
    [2 ** 32 - 1, 0, 2 ** 32 - 1, 0],
  );
  assert.deepEqual(
    answer.choices.map(({ index }) => index),
    [0, 1, 2, 3],
  );
  assert.notDeepEqual(requests[0]!.promptTokenIds, requests[2]!.promptTokenIds);
});
