// Two tenants with keys, through the official openai client, over a scripted engine.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import OpenAI from "openai";
import { CotenantError } from "../../kernels/errors.ts";
import type { ErrorBody } from "../../server/http-error.ts";
import { listen } from "../../server/listen.ts";
import type { Quotas } from "../../server/tenancy/tenant.ts";
import { until } from "../until.ts";
import { finished, type Script, scriptedApp, scriptedVersion, writes } from "./scripted-app.ts";
import { all } from "./start-tiny.ts";
import { twoTenants } from "./two-tenants.ts";

type Options = { readonly quotas?: Partial<Quotas>; readonly script?: Script };

async function scene(context: TestContext, { quotas, script }: Options = {}) {
  const tenants = await twoTenants(context, quotas);
  const served = await scriptedApp((text) => script ?? writes(text, "one two"), { keyring: tenants.keyring });
  await served.adapters.serve(scriptedVersion("default", "shared"));
  await served.adapters.serve(scriptedVersion("acme", "orders"));
  await served.adapters.serve(scriptedVersion("globex", "orders"));
  await served.adapters.serve(scriptedVersion("globex", "tickets"));
  const [listener, admin] = await Promise.all(
    [served.app, served.admin].map((app) => listen(app, { host: "127.0.0.1", port: 0 })),
  );
  context.after(() => Promise.all([listener!.close(), admin!.close()]));
  const clientOf = (apiKey: string) => new OpenAI({ baseURL: `${listener!.url}/v1`, apiKey, maxRetries: 0 });
  return {
    ...tenants,
    served,
    acme: clientOf(tenants.keys.acme.inference),
    globex: clientOf(tenants.keys.globex.inference),
    clientOf,
    adminUrl: `${admin!.url}/v1`,
  };
}

const prompt = { prompt: "x", max_tokens: 40 };

test("a wrong key is the client's AuthenticationError, and the answer repeats nothing of it", async (context) => {
  const { clientOf, keys } = await scene(context);
  const wrong = keys.acme.inference.replace(/.$/, (last) => (last === "A" ? "B" : "A"));
  await assert.rejects(clientOf(wrong).models.list(), (error) => {
    assert.ok(error instanceof OpenAI.AuthenticationError);
    assert.equal(error.code, "invalid_api_key");
    assert.equal(error.headers.get("www-authenticate"), "Bearer");
    assert.ok(!JSON.stringify(error.error).includes(wrong.slice(-20)));
    return true;
  });
  await assert.rejects(clientOf("none").models.list(), OpenAI.AuthenticationError);
});

test("each key lists and calls its tenant's adapters and the shared ones", async (context) => {
  const { acme, globex, served } = await scene(context);
  const ids = async (client: OpenAI) => (await all(client.models.list())).map(({ id }) => id);
  assert.deepEqual(await ids(acme), ["tiny", "shared", "orders"]);
  assert.deepEqual(await ids(globex), ["tiny", "shared", "orders", "tickets"]);
  for (const model of ["tiny", "shared", "orders"]) await acme.completions.create({ model, ...prompt });
  await globex.completions.create({ model: "orders", ...prompt });
  await assert.rejects(acme.completions.create({ model: "tickets", ...prompt }), OpenAI.NotFoundError);
  await assert.rejects(acme.models.retrieve("tickets"), OpenAI.NotFoundError);
  assert.deepEqual(
    served.requests.map(({ adapterVersion, tenant }) => [adapterVersion, tenant]),
    [
      [null, { id: "acme", weight: 2, rowsAtOnce: null }],
      ["default:shared@1", { id: "acme", weight: 2, rowsAtOnce: null }],
      ["acme:orders@1", { id: "acme", weight: 2, rowsAtOnce: null }],
      ["globex:orders@1", { id: "globex", weight: 1, rowsAtOnce: null }],
    ],
  );
});

test("a key may do what its role covers, and no more", async (context) => {
  const { clientOf, keys } = await scene(context);
  const upload = (apiKey: string) => {
    const form = new FormData();
    form.append("id", "mine");
    form.append("files", new Blob(["x"]), "adapter_config.json");
    return clientOf(apiKey).post("/adapters", { body: form });
  };
  await assert.rejects(upload(keys.acme.inference), (error) => {
    assert.ok(error instanceof OpenAI.PermissionDeniedError);
    assert.equal(error.code, "insufficient_permissions");
    return true;
  });
  assert.ok(await upload(keys.acme.manage));
});

test("requests per minute: headers on answers, then 429 with the time to come back", async (context) => {
  const { acme, globex } = await scene(context, { quotas: { requestsPerMinute: 2, tokensPerMinute: 1000 } });
  const { data, response } = await acme.completions.create({ model: "orders", ...prompt }).withResponse();
  const headers = Object.fromEntries(response.headers);
  assert.equal(headers["x-ratelimit-limit-requests"], "2");
  assert.equal(headers["x-ratelimit-remaining-requests"], "1");
  assert.match(headers["x-ratelimit-reset-requests"]!, /^(30|2\d\.\d+)s$/);
  assert.equal(headers["x-ratelimit-limit-tokens"], "1000");
  const left = Number(headers["x-ratelimit-remaining-tokens"]);
  assert.ok(left >= 1000 - data.usage!.total_tokens && left <= 1000, `${left} left`);
  await acme.models.list();
  await assert.rejects(acme.completions.create({ model: "orders", ...prompt, stream: true }), (error) => {
    assert.ok(error instanceof OpenAI.RateLimitError);
    assert.equal(error.code, "rate_limit_exceeded");
    const retryMs = Number(error.headers.get("retry-after-ms"));
    assert.ok(retryMs > 20_000 && retryMs <= 30_000, `${retryMs} ms`);
    assert.equal(error.headers.get("retry-after"), `${Math.ceil(retryMs / 1000)}`);
    assert.equal(error.headers.get("x-ratelimit-remaining-requests"), "0");
    return true;
  });
  await globex.models.list();
});

test("tokens are reserved at the most that a request may use; too many at once never reach the engine", async (context) => {
  const slow: Script = async function* () {
    await delay(100);
    yield finished("stop", 2);
  };
  const { acme, clientOf, keys, served } = await scene(context, {
    quotas: { tokensPerMinute: 100 },
    script: slow,
  });
  const body = { model: "orders", prompt: "x" };
  await assert.rejects(acme.completions.create({ ...body, max_tokens: 100 }), (error) => {
    assert.ok(error instanceof OpenAI.RateLimitError);
    assert.match(error.message, /may use 101 tokens and your limit is 100 per minute/);
    assert.equal(error.headers.get("retry-after"), null);
    return true;
  });
  // The client's own retries would not help, and it knows.
  let tries = 0;
  const counting: typeof fetch = (...given) => {
    tries++;
    return fetch(...given);
  };
  const retrying = clientOf(keys.acme.inference).withOptions({ maxRetries: 3, fetch: counting });
  await assert.rejects(retrying.completions.create({ ...body, max_tokens: 100 }), OpenAI.RateLimitError);
  assert.equal(tries, 1);
  const both = await Promise.allSettled(
    [60, 60].map((max_tokens) => acme.completions.create({ ...body, max_tokens })),
  );
  assert.deepEqual(both.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
  assert.equal(served.requests.length, 1);
  await acme.completions.create({ ...body, max_tokens: 60 }); // the first one used few of its own
});

/** Tokens until it is aborted. */
const endless: Script = async function* (_, signal) {
  for (;;) {
    await delay(1, undefined, { signal });
    yield { type: "token", tokenId: 100, logprob: null };
  }
};

test("a client that leaves gets back what it reserved and did not use", async (context) => {
  const { acme } = await scene(context, { quotas: { tokensPerDay: 1000 }, script: endless });
  const body = { model: "orders", prompt: "x", max_tokens: 900 };
  const stream = await acme.completions.create({ ...body, stream: true });
  await assert.rejects(acme.completions.create(body), OpenAI.RateLimitError);
  for await (const _ of stream) break;
  const leaving = new AbortController();
  const whole = acme.completions.create(body, { signal: leaving.signal });
  whole.catch(() => {});
  await delay(50);
  leaving.abort();
  await until(async () => {
    try {
      const again = await acme.completions.create({ ...body, max_tokens: 500, stream: true });
      for await (const _ of again) break;
      return true;
    } catch (error) {
      assert.ok(error instanceof OpenAI.RateLimitError, String(error));
      return false;
    }
  });
});

type UsagePage = OpenAI.Admin.Organization.Usage.UsageCompletionsResponse;

const start = () => ({ start_time: Math.floor(Date.now() / 1000) });

test("the ledger holds what the answers said, by tenant and adapter, and nobody else's", async (context) => {
  const { acme, globex, keys, adminUrl } = await scene(context);
  const sums = { input_tokens: 0, output_tokens: 0, num_model_requests: 0 };
  for (const body of [
    { model: "orders", ...prompt },
    { model: "orders", ...prompt, n: 3 },
    { model: "tiny", prompt: ["x", "y y"], max_tokens: 3 },
  ]) {
    const { usage } = await acme.completions.create(body);
    sums.input_tokens += usage!.prompt_tokens;
    sums.output_tokens += usage!.completion_tokens;
    sums.num_model_requests++;
  }
  await globex.chat.completions.create({ model: "orders", messages: [{ role: "user", content: "x" }] });
  const own = await acme.get<UsagePage>("/usage", { query: start() });
  const pick = (one: object) =>
    Object.fromEntries(Object.entries(one).filter(([name]) => Object.hasOwn(sums, name)));
  assert.deepEqual(
    own.data.flatMap(({ results }) => results.map(pick)),
    [sums],
  );
  const byModel = await acme.get<UsagePage>("/usage", {
    query: { ...start(), bucket_width: "1h", group_by: ["model", "adapter_version"] },
  });
  assert.deepEqual(
    byModel.data.flatMap(({ results }) => results.map((one) => "model" in one && one.model)),
    ["orders", "tiny"],
  );
  const operator = new OpenAI({ baseURL: adminUrl, apiKey: "unused", adminAPIKey: keys.globex.admin });
  const everybody = await operator.admin.organization.usage.completions({
    ...start(),
    group_by: ["project_id"],
  });
  assert.deepEqual(
    everybody.data.flatMap(({ results }) => results.map((one) => "project_id" in one && one.project_id)),
    ["acme", "globex"],
  );
  const stranger = new OpenAI({ baseURL: adminUrl, apiKey: "unused", adminAPIKey: keys.globex.manage });
  await assert.rejects(stranger.admin.organization.usage.completions(start()), OpenAI.PermissionDeniedError);
});

test("prompt tokens from the prefix cache are counted as such, once for all choices", async (context) => {
  const script: Script = async function* () {
    yield { type: "cached", tokens: 2 };
    yield finished("stop", 2);
  };
  const { acme } = await scene(context, { script });
  await acme.completions.create({ model: "orders", prompt: [7, 7, 7], n: 2 });
  const { data } = await acme.get<UsagePage>("/usage", { query: start() });
  const [result] = data.flatMap(({ results }) => results);
  assert.ok(result && "input_cached_tokens" in result);
  assert.deepEqual([result.input_tokens, result.input_cached_tokens], [3, 2]);
});

test("what the engine refuses costs nothing; what a client abandons costs its prompt", async (context) => {
  let isFull = true;
  const script: Script = async function* (_, signal) {
    if (isFull) throw new CotenantError("queue_full", "the queue is full; try again later");
    await delay(60_000, undefined, { signal });
    yield finished("stop");
  };
  const { acme, served } = await scene(context, { script });
  const body = { model: "orders", prompt: [7, 7, 7], max_tokens: 5 };
  await assert.rejects(acme.completions.create(body), OpenAI.RateLimitError);
  isFull = false;
  const leaving = new AbortController();
  const answer = acme.completions.create(body, { signal: leaving.signal });
  await until(() => served.requests.length === 2);
  leaving.abort();
  await assert.rejects(answer, OpenAI.APIUserAbortError);
  const { usage } = served.context.readiness.serving;
  await until(() => usage.tokensSince("acme", 0) > 0);
  assert.equal(usage.tokensSince("acme", 0), 3);
});

test("usage comes in pages, and a wrong query is named", async (context) => {
  const { acme } = await scene(context);
  const page = (query: Record<string, unknown>) => acme.get<UsagePage>("/usage", { query });
  const first = await page({ start_time: 90_000, end_time: 86_400 * 4 + 1, limit: 2 });
  assert.deepEqual(
    first.data.map(({ start_time, end_time, results }) => [start_time / 86_400, end_time / 86_400, results]),
    [
      [1, 2, []],
      [2, 3, []],
    ],
  );
  assert.equal(first.has_more, true);
  const next = await page({ start_time: 90_000, end_time: 86_400 * 4 + 1, page: first.next_page });
  assert.deepEqual(
    next.data.map(({ start_time }) => start_time / 86_400),
    [3, 4],
  );
  assert.deepEqual([next.has_more, next.next_page], [false, null]);
  const refusals: [query: Record<string, unknown>, param: string][] = [
    [{}, "start_time"],
    [{ start_time: "yesterday" }, "start_time"],
    [{ start_time: 10, end_time: 10 }, "end_time"],
    [{ start_time: 0, bucket_width: "1m" }, "bucket_width"],
    [{ start_time: 0, group_by: ["user_id"] }, "group_by[0]"],
    [{ start_time: 0, limit: 32 }, "limit"],
    [{ start_time: 0, tenant: "globex" }, "tenant"],
  ];
  for (const [query, param] of refusals) {
    await assert.rejects(page(query), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(error.param, param);
      return true;
    });
  }
});

test("without keys a web page can neither upload nor ask, on either listener, and clients notice nothing", async (context) => {
  const { app, admin, adapters } = await scriptedApp((text) => writes(text, "one two"), {
    refusesWebPages: true,
  });
  const [main, other] = await Promise.all(
    [app, admin].map((each) => listen(each, { host: "127.0.0.1", port: 0 })),
  );
  context.after(() => Promise.all([main!.close(), other!.close()]));
  const codeOf = async (url: string, init: RequestInit) =>
    ((await (await fetch(url, init)).json()) as ErrorBody).error.code;
  const form = new FormData();
  form.append("id", "planted");
  form.append("files", new Blob(["{}"]), "adapter_config.json");
  const headers = { origin: "https://example.com" };
  const upload = { method: "POST", body: form, headers };
  assert.equal(await codeOf(`${main!.url}/v1/adapters`, upload), "foreign_origin");
  assert.equal(
    await codeOf(`${other!.url}/v1/load_lora_adapter`, { method: "POST", headers }),
    "foreign_origin",
  );
  assert.deepEqual(adapters.list(), []);
  const client = new OpenAI({ baseURL: `${main!.url}/v1`, apiKey: "none", maxRetries: 0 });
  assert.equal((await client.completions.create({ model: "tiny", ...prompt })).choices[0]!.text, "one two");
});
