// The official openai client against the embedded base on the real engine.

import assert from "node:assert/strict";
import { openAsBlob } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import OpenAI from "openai";
import { until } from "../until.ts";
import { tinyDirectory } from "./scripted-app.ts";
import { all, startTiny, type TinyServer } from "./start-tiny.ts";

const adaptersDirectory = join(tinyDirectory, "adapters");
const messages = [{ role: "user" as const, content: "Hello, where is my parcel?" }];

suite("openai client", () => {
  let server: TinyServer;
  let client: OpenAI;

  before(async () => {
    server = await startTiny({ adaptersDirectory });
    client = server.client;
  });

  after(async () => server[Symbol.asyncDispose]());

  test("lists the base and every adapter", async () => {
    const ids = (await all(client.models.list())).map(({ id }) => id);
    assert.deepEqual(ids, ["tiny", ...(await readdir(adaptersDirectory)).sort()]);
    const adapter = await client.models.retrieve(ids[1]!);
    assert.equal((adapter as { parent?: string }).parent, "tiny");
  });

  test("a completion, its stream, and the same seed again are the same text", async () => {
    const body = { model: "tiny", prompt: "The", max_tokens: 24, temperature: 1, seed: 7 };
    const whole = await client.completions.create(body);
    const again = await client.completions.create(body);
    let streamed = "";
    for await (const chunk of await client.completions.create({ ...body, stream: true })) {
      streamed += chunk.choices[0]?.text ?? "";
    }
    assert.equal(again.choices[0]!.text, whole.choices[0]!.text);
    assert.equal(streamed, whole.choices[0]!.text);
  });

  test("a chat stream starts with the role and ends with usage", async () => {
    const body = { model: "tiny", messages, temperature: 0, max_tokens: 20 };
    const whole = await client.chat.completions.create(body);
    const stream = await client.chat.completions.create({
      ...body,
      stream: true,
      stream_options: { include_usage: true },
    });
    const chunks = await all(stream);
    assert.equal(chunks[0]!.choices[0]!.delta.role, "assistant");
    const text = chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join("");
    assert.equal(text, whole.choices[0]!.message.content);
    assert.deepEqual(chunks.at(-1)!.choices, []);
    assert.deepEqual(chunks.at(-1)!.usage, whole.usage);
    assert.equal(chunks.at(-2)!.choices[0]!.finish_reason, whole.choices[0]!.finish_reason);
  });

  test("every adapter answers alone as it answers beside the others", async () => {
    const ask = async (model: string) => {
      const answer = await client.chat.completions.create({
        model,
        messages,
        temperature: 0,
        max_tokens: 24,
      });
      return answer.choices[0]!.message.content;
    };
    const models = ["tiny", ...server.adapters];
    const alone: (string | null)[] = [];
    for (const model of models) alone.push(await ask(model));
    assert.deepEqual(await Promise.all(models.map(ask)), alone);
    assert.deepEqual(await Promise.all(server.adapters.map((id) => ask(`tiny:${id}`))), alone.slice(1));
    assert.ok(new Set(alone).size > 1, "the adapters change nothing");
  });

  test("logprobs of chat and of an echoed prompt", async () => {
    const chat = await client.chat.completions.create({
      model: "tiny",
      messages,
      max_tokens: 4,
      temperature: 0,
      logprobs: true,
      top_logprobs: 3,
    });
    for (const token of chat.choices[0]!.logprobs!.content!) {
      assert.equal(token.top_logprobs.length, 3);
      assert.equal(token.top_logprobs[0]!.token, token.token); // greedy
      assert.equal(Buffer.from(token.bytes!).toString(), token.token);
    }
    const echoed = await client.completions.create({
      model: "tiny",
      prompt: "The parcel is",
      echo: true,
      logprobs: 1,
      max_tokens: 0,
    });
    const { text, logprobs } = echoed.choices[0]!;
    assert.equal(text, "The parcel is");
    assert.equal(logprobs!.tokens!.join(""), text);
    assert.equal(logprobs!.token_logprobs![0], null);
    assert.ok(logprobs!.token_logprobs!.slice(1).every((logprob) => logprob <= 0));
    assert.deepEqual(logprobs!.text_offset![0], 0);
    assert.equal(echoed.usage!.completion_tokens, 0);
  });

  test("several prompts with n choices each come back in order", async () => {
    const prompts = ["The", "My parcel", "Please"];
    const answer = await client.completions.create({
      model: "tiny",
      prompt: prompts,
      n: 2,
      max_tokens: 5,
      echo: true,
      temperature: 0,
    });
    assert.equal(answer.choices.length, 6);
    for (const [index, choice] of answer.choices.entries()) {
      assert.equal(choice.index, index);
      assert.ok(choice.text.startsWith(prompts[Math.floor(index / 2)]!));
    }
  });

  test("token ids in, token ids in the logprobs out", async () => {
    const body = { model: "tiny", prompt: [263, 288, 84], max_tokens: 3, logprobs: 0, min_tokens: 3 };
    const answer = await client.completions.create({
      ...body,
      return_tokens_as_token_ids: true,
    } as typeof body);
    assert.ok(answer.choices[0]!.logprobs!.tokens!.every((token) => /^token_id:\d+$/.test(token)));
  });

  test("a long text is encoded beside the HTTP thread, to the same tokens", async () => {
    const tokenize = async (prompt: string) => {
      const headers = { "content-type": "application/json" };
      const init = { method: "POST", headers, body: JSON.stringify({ prompt }) };
      return (await (await fetch(`${server.url}/tokenize`, init)).json()) as { readonly tokens: number[] };
    };
    const sentence = "My parcel has not arrived.\n";
    const { tokens } = await tokenize(sentence);
    const long = await tokenize(sentence.repeat(2000));
    assert.deepEqual(long.tokens, Array(2000).fill(tokens).flat());
  });

  test("errors come as the client's own classes", async () => {
    await assert.rejects(
      client.completions.create({ model: "nobody", prompt: "x" }),
      (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found",
    );
    await assert.rejects(
      client.chat.completions.create({ model: "tiny", messages, temperature: 9 }),
      (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature",
    );
  });

  test("a client that leaves frees its row, in a stream and before a whole answer", async () => {
    const body = { model: "tiny", prompt: "The", max_tokens: 900, ignore_eos: true };
    const stream = await client.completions.create({ ...body, stream: true });
    const before = await gauge("vllm:generation_tokens_total");
    for await (const _ of stream) break;
    await untilIdle();
    const leaving = new AbortController();
    const answer = client.completions.create(body, { signal: leaving.signal });
    await until(async () => (await gauge("vllm:num_requests_running")) > 0);
    leaving.abort();
    await assert.rejects(answer, OpenAI.APIUserAbortError);
    await untilIdle();
    assert.ok((await gauge("vllm:generation_tokens_total")) - before < 900, "one was answered to its end");
  });

  test("an uploaded adapter is served at once and answers as the original", async () => {
    const [original] = server.adapters;
    const form = new FormData();
    form.append("id", "acme/uploaded");
    for (const name of ["adapter_config.json", "adapter_model.safetensors"]) {
      form.append("files", await openAsBlob(join(adaptersDirectory, original!, name)), name);
    }
    const response = await fetch(`${server.url}/v1/adapters`, { method: "POST", body: form });
    const uploaded = (await response.json()) as {
      readonly id: string;
      readonly modules_matched: { count: number };
    };
    assert.equal(response.status, 201);
    assert.ok(uploaded.modules_matched.count > 0);
    const ask = (model: string) =>
      client.completions.create({ model, prompt: "Please", max_tokens: 16, temperature: 0 });
    const [copy, first] = await Promise.all([ask("acme/uploaded"), ask(original!)]);
    assert.equal(copy.choices[0]!.text, first.choices[0]!.text);
    assert.equal((await client.models.retrieve("acme/uploaded")).id, "acme/uploaded");
  });

  test("an upload without weights, or with broken ones, is refused with the reason", async () => {
    const config = await openAsBlob(join(adaptersDirectory, server.adapters[0]!, "adapter_config.json"));
    const broken = [
      null,
      new Blob([""]),
      new Blob(["\u0008\0\0\0\0\0\0\0{}      "]),
      new Blob(["x".repeat(500)]),
    ];
    for (const weights of broken) {
      const form = new FormData();
      form.append("id", "broken");
      form.append("files", config, "adapter_config.json");
      if (weights) form.append("files", weights, "adapter_model.safetensors");
      const response = await fetch(`${server.url}/v1/adapters`, { method: "POST", body: form });
      assert.equal(response.status, 400, await response.text());
    }
  });

  test("16 streams at once leave the HTTP thread responsive", async () => {
    const workMs: number[] = []; // of this thread, between two turns that others could have
    let before = process.threadCpuUsage();
    const turns = setInterval(() => {
      const { user, system } = process.threadCpuUsage(before);
      workMs.push((user + system) / 1000);
      before = process.threadCpuUsage();
    }, 5);
    const models = ["tiny", ...server.adapters];
    const one = async (index: number) => {
      const body = {
        model: models[index % models.length]!,
        messages,
        max_tokens: 60,
        seed: index,
        ignore_eos: true,
      };
      const stream_options = { include_usage: true };
      const chunks = await all(
        await client.chat.completions.create({ ...body, stream: true, stream_options }),
      );
      return chunks.at(-1)?.usage?.completion_tokens;
    };
    const tokens = await Promise.all(Array.from({ length: 16 }, (_, index) => one(index)));
    assert.deepEqual(tokens, Array(16).fill(60));
    clearInterval(turns);
    const p99Ms = workMs.toSorted((a, b) => a - b)[Math.floor(0.99 * workMs.length)]!;
    assert.ok(p99Ms < 50, `p99 ${p99Ms} ms`); // the client's work is in it
    assert.ok((await gauge("cotenant_event_loop_delay_p99_seconds")) > 0);
  });

  const untilIdle = () => until(async () => (await gauge("vllm:num_requests_running")) === 0);

  async function gauge(name: string): Promise<number> {
    const exposition = await (await fetch(`${server.url}/metrics`)).text();
    const line = exposition.split("\n").find((candidate) => candidate.startsWith(name)) ?? "";
    return Number(line.split(" ").at(-1));
  }
});
