// What a request can say of when it runs, what it hears when it does not, and who may cancel it.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { RefusedRequestError } from "../../scheduler/engine.ts";
import { defaultScheduling } from "../../scheduler/scheduling-options.ts";
import type { CompletionAnswer } from "../../server/endpoints/completions-contract.ts";
import { InvalidKeyError } from "../../server/tenancy/errors.ts";
import type { Keyring } from "../../server/tenancy/keyring.ts";
import { noQuotas, type Tenant } from "../../server/tenancy/tenant.ts";
import {
  completionOf,
  errorOf,
  finished,
  readEvents,
  type Script,
  scriptedApp,
  tinyDirectory,
  writes,
} from "./scripted-app.ts";
import { all, startTiny } from "./start-tiny.ts";

const path = "/v1/completions";
const body = { model: "tiny", prompt: "a" };

/** A token, then nothing until the request is aborted. */
const hangs: Script = async function* (_, signal) {
  yield { type: "token", tokenId: 300, logprob: null };
  await new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
};

const tenantOf = (id: string, role: Tenant["role"] = "inference"): Tenant => ({
  id,
  weight: 1,
  quotas: noQuotas,
  role,
});

/** The key is the tenant's id. */
const keyring: Keyring = {
  authenticate(authorization) {
    const id = authorization?.replace("Bearer ", "") ?? "";
    if (id === "") throw new InvalidKeyError();
    return tenantOf(id, id === "operator" ? "admin" : "inference");
  },
  close() {},
};

const as = (id: string) => ({
  headers: { "content-type": "application/json", authorization: `Bearer ${id}` },
});

test("priority and timeout_ms reach the engine, with the tenant; the defaults are 0 and none", async () => {
  const { post, requests } = await scriptedApp((text) => writes(text, "a"), { keyring });
  await post(path, { ...body, priority: 3, timeout_ms: 1500 }, as("one"));
  await post(path, body, as("two"));
  assert.deepEqual(
    requests.map(({ tenant, priority, timeoutMs }) => [tenant.id, priority, timeoutMs && timeoutMs > 1000]),
    [
      ["one", 3, true], // less what had passed since it came
      ["two", 0, null],
    ],
  );
});

test("only an admin key may come before everybody else", async () => {
  const { post, requests } = await scriptedApp((text) => writes(text, "a"), { keyring });
  const refused = await post(path, { ...body, priority: -1 }, as("one"));
  assert.equal(refused.status, 403);
  assert.equal((await errorOf(refused)).code, "insufficient_permissions");
  assert.equal((await post(path, { ...body, priority: -1 }, as("operator"))).status, 200);
  assert.deepEqual(
    requests.map(({ priority }) => priority),
    [-1],
  );
});

test("more choices than can ever wait at once are refused at once", async () => {
  const { post } = await scriptedApp((text) => writes(text, "a"));
  const response = await post(path, { ...body, prompt: Array(20).fill("a"), n: 128 });
  assert.equal(response.status, 400);
  assert.equal((await errorOf(response)).param, "n");
});

const refusing = (code: string, retryAfterMs: number | null): Script =>
  // biome-ignore lint/correctness/useYield: it fails before its first event
  async function* () {
    throw new RefusedRequestError({ code, message: "no", retryAfterMs });
  };

test("a full queue is a 429 with the engine's forecast, a timeout a 408 that is not worth another try", async () => {
  const full = await (await scriptedApp(() => refusing("queue_full", 2345))).post(path, body);
  assert.equal(full.status, 429);
  assert.equal(full.headers.get("retry-after"), "3");
  assert.equal(full.headers.get("retry-after-ms"), "2345");
  const late = await (await scriptedApp(() => refusing("request_timed_out", null))).post(path, body);
  assert.equal(late.status, 408);
  assert.equal(late.headers.get("retry-after"), null);
  assert.equal(late.headers.get("x-should-retry"), "false");
});

test("DELETE /v1/requests/{id} ends a stream with request_cancelled; other tenants' ids are unknown ones", async () => {
  const { app, post } = await scriptedApp(() => hangs, { keyring });
  const response = await post(path, { ...body, stream: true, return_token_ids: true }, as("one"));
  const [forReading, forId] = response.body!.tee();
  const reader = forId.getReader();
  const first = new TextDecoder().decode((await reader.read()).value);
  const { id } = JSON.parse(first.replace("data: ", "")) as CompletionAnswer;
  const cancel = (who: string, which = id) =>
    app.request(`/v1/requests/${which}`, { method: "DELETE", ...as(who) });
  const [foreign, unknown] = [await cancel("two"), await cancel("two", "cmpl-nobody")];
  assert.deepEqual([foreign.status, unknown.status], [404, 404]);
  const textOf = async (answer: Response) =>
    (await answer.text()).replaceAll(id, "ID").replaceAll("cmpl-nobody", "ID");
  assert.equal(await textOf(foreign), await textOf(unknown));
  const cancelled = await cancel("one");
  assert.deepEqual(await cancelled.json(), { id, object: "request", cancelled: true });
  void reader.cancel(); // settles when both branches have ended
  const events = await readEvents(new Response(forReading));
  const error = events.at(-2) as { error: { code: string } };
  assert.equal(error.error.code, "request_cancelled");
  assert.equal(events.at(-1), "[DONE]");
  assert.equal((await cancel("one")).status, 404, "it is over");
});

test("DELETE /v1/requests/{id} takes the x-request-id that the request was sent with, before there is an answer", async () => {
  const { app, post } = await scriptedApp(() => hangs, { keyring });
  const named = (who: string) => ({ headers: { ...as(who).headers, "x-request-id": "mine" } });
  const answers = ["one", "one", "two"].map((who) => post(path, body, named(who)));
  const cancel = (who: string) => app.request("/v1/requests/mine", { method: "DELETE", ...as(who) });
  while ((await cancel("one")).status === 404) await new Promise((wake) => setTimeout(wake, 5));
  const codes = await Promise.all(
    answers.slice(0, 2).map(async (answer) => (await errorOf(await answer)).code),
  );
  assert.deepEqual(codes, ["request_cancelled", "request_cancelled"]);
  assert.equal((await cancel("two")).status, 200, "the other tenant's goes on until its own word");
  assert.equal((await errorOf(await answers[2]!)).code, "request_cancelled");
});

test("cached prompt tokens are in the usage, of each prompt once, and no chunk shows them", async () => {
  const script: Script = async function* () {
    yield { type: "cached", tokens: 128 };
    yield { type: "token", tokenId: 300, logprob: null };
    yield finished("length");
  };
  const { post } = await scriptedApp(() => script);
  const answer = await completionOf(await post(path, { ...body, n: 3, max_tokens: 1 }));
  assert.deepEqual(answer.usage!.prompt_tokens_details, { cached_tokens: 128 });
  assert.equal(answer.choices.length, 3);
  const stream = await post(path, { ...body, stream: true, stream_options: { include_usage: true } });
  const events = (await readEvents(stream)) as CompletionAnswer[];
  assert.equal(events.at(-2)!.usage!.prompt_tokens_details.cached_tokens, 128);
});

test("on a real server: too many at once are refused with a wait, those who run are cancelled or time out", async () => {
  const scheduling = { ...defaultScheduling, maxQueuePerTenant: 2 };
  await using server = await startTiny({ maxRows: 1, scheduling });
  const ask = (rest: object) => ({
    model: "tiny",
    prompt: "once",
    max_tokens: 400,
    ignore_eos: true,
    ...rest,
  });
  const stream = await server.client.completions.create({ ...ask({ max_tokens: 900 }), stream: true });
  const chunks = stream[Symbol.asyncIterator]();
  const { id } = (await chunks.next()).value!;
  const outcomeOf = (rest: object) =>
    server.client.completions.create(ask(rest)).then(
      () => "done",
      (error: { code: string; headers: Headers }) => `${error.code} ${error.headers.has("retry-after-ms")}`,
    );
  const impatient = [1, 2].map((seed) => outcomeOf({ seed, timeout_ms: 50 }));
  assert.deepEqual(await Promise.all(impatient), Array(2).fill("request_timed_out false"));
  const outcomes: string[] = [];
  const refused = Promise.withResolvers<void>();
  const others = [1, 2, 3, 4, 5].map(async (seed) => {
    if (outcomes.push(await outcomeOf({ seed, max_tokens: 2 })) === 3) refused.resolve();
  });
  await refused.promise;
  assert.deepEqual(outcomes, Array(3).fill("queue_full true"));
  const cancelled = await fetch(`${server.url}/v1/requests/${id}`, { method: "DELETE" });
  assert.equal(cancelled.status, 200);
  await assert.rejects(all({ [Symbol.asyncIterator]: () => chunks }), { code: "request_cancelled" });
  await Promise.all(others);
  assert.deepEqual(outcomes.slice(3), ["done", "done"]);
  const after = await server.client.completions.create(ask({ max_tokens: 2 }));
  assert.equal(after.usage!.completion_tokens, 2);
});

test("on a real server: what can never have its rows or its memory is refused by name", async () => {
  const scheduling = { ...defaultScheduling, deviceSlots: 1, maxKvBytes: 7_000_000 };
  const adaptersDirectory = join(tinyDirectory, "adapters");
  await using server = await startTiny({ maxRows: 2, scheduling, adaptersDirectory });
  const ask = async (rest: object) => {
    const request = { model: "tiny", prompt: "once", max_tokens: 2, ...rest };
    const init = {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(request),
    };
    const response = await fetch(`${server.url}${path}`, init);
    return [response.status, response.ok ? "" : (await errorOf(response)).code];
  };
  const half = [{ id: "orders-json", weight: 0.5 }];
  const blend = { adapters: half, mode: "logits" }; // with the base: two rows
  const both = [...half, { id: "house-style", weight: 0.5 }];
  assert.deepEqual(await ask({ adapters: both, mode: "logits" }), [400, "too_many_adapters"]);
  assert.deepEqual(await ask({ ...blend, max_tokens: 900 }), [400, "request_too_large"]);
  assert.deepEqual(await ask(blend), [200, ""]);
});

test("on a real server: a prompt's second run finds its chunks in the cache and writes the same text", async () => {
  await using server = await startTiny();
  const prompt = Array.from({ length: 300 }, (_, index) => 20 + ((index * 37) % 900));
  const ask = async () =>
    server.client.completions.create({ model: "tiny", prompt, max_tokens: 8, temperature: 0, logprobs: 1 });
  const [first, second] = [await ask(), await ask()];
  assert.equal(first.usage!.prompt_tokens_details!.cached_tokens, 0);
  assert.equal(second.usage!.prompt_tokens_details!.cached_tokens, 256);
  assert.deepEqual(second.choices, first.choices);
});
