// Adapters made from others, on the real engine: compressed, merged, and composed by a request.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { tinyDirectory } from "./scripted-app.ts";
import { startTiny, tinyName } from "./start-tiny.ts";

const adaptersDirectory = join(tinyDirectory, "adapters");
const server = await startTiny({ adaptersDirectory });
after(() => server[Symbol.asyncDispose]());

type Demo = { readonly adapter: string; readonly prompt: string; readonly completion: string };
const demos: readonly Demo[] = JSON.parse(readFileSync(join(tinyDirectory, "demo.json"), "utf8"));
const prompt = "Order 12 boxes of";

type Json = Record<string, unknown>;

type Report = {
  readonly ratio: number;
  readonly weight_error: { readonly total: number };
  readonly bytes_before: number;
  readonly bytes_after: number;
  readonly outputs: {
    readonly mean_kl: number;
    readonly top1_agreement: number;
    readonly tokens: number;
  };
};

async function post(path: string, body: Json | FormData, url = server.url) {
  const isForm = body instanceof FormData;
  const response = await fetch(`${url}${path}`, {
    method: "POST",
    ...(isForm ? {} : { headers: { "content-type": "application/json" } }),
    body: isForm ? body : JSON.stringify(body),
  });
  return { status: response.status, body: (await response.json()) as Json & { error: Json } };
}

/** What a greedy completion says and how sure of it the model was. */
async function complete(fields: Json, url = server.url) {
  const { status, body } = await post(
    "/v1/completions",
    { model: tinyName, prompt, max_tokens: 12, temperature: 0, logprobs: 0, ...fields },
    url,
  );
  assert.equal(status, 200, JSON.stringify(body));
  const [choice] = body.choices as [{ text: string; logprobs: { token_logprobs: number[] } }];
  return { model: body.model, text: choice.text, logprobs: choice.logprobs.token_logprobs };
}

async function answerTo({ prompt: content }: Demo, model: string): Promise<string> {
  const { body } = await post("/v1/chat/completions", {
    model,
    messages: [{ role: "user", content }],
    max_tokens: 96,
    temperature: 0,
  });
  return (body.choices as [{ message: { content: string } }])[0].message.content;
}

function assertClose(one: readonly number[], other: readonly number[]): void {
  assert.equal(one.length, other.length);
  for (const [index, value] of one.entries()) {
    assert.ok(Math.abs(value - other[index]!) < 2e-3, `${value} ${other[index]}`);
  }
}

const halves = [
  { id: "orders-json", weight: 0.5 },
  { id: "house-style", weight: 0.75 },
];

test("an adapter compressed to 8 bits is not much over half of 16 bits, and answers as before", async () => {
  for (const demo of demos.slice(0, 3)) {
    const alias = `${demo.adapter}-int8`;
    const { status, body } = await post(`/v1/adapters/${demo.adapter}/compress`, { method: "int8", alias });
    assert.equal(status, 201, JSON.stringify(body));
    assert.equal(body.id, alias);
    assert.equal(body.format, "cotenant");
    const report = body.compression as Report;
    assert.ok(report.ratio > 1.8 && report.bytes_after < report.bytes_before / 1.8, JSON.stringify(report));
    assert.ok(report.weight_error.total > 0 && report.weight_error.total < 0.02);
    assert.equal(await answerTo(demo, alias), demo.completion);
  }
});

test("compressing under its own id gives an adapter a new version that its name means", async () => {
  const first = await post("/v1/adapters/merge", { id: "own", method: "linear", adapters: [halves[0]!] });
  const { status, body } = await post("/v1/adapters/own/compress", { target_ratio: 3 });
  assert.equal(status, 201, JSON.stringify(body));
  assert.deepEqual(body.parents, [first.body.version]);
  const versions = await fetch(`${server.url}/v1/adapters/own/versions`);
  const { data } = (await versions.json()) as { data: { version: string; is_current: boolean }[] };
  assert.deepEqual(
    data.map(({ version, is_current }) => [version, is_current]),
    [
      [body.version, true],
      [first.body.version, false],
    ],
  );
  const readOnly = await post("/v1/adapters/orders-json/compress", { method: "int8" });
  assert.equal(readOnly.body.error.code, "adapter_id_read_only");
});

test("a request's weighted adapters answer as their linear merge does", async () => {
  const { status, body } = await post("/v1/adapters/merge", {
    id: "merged",
    method: "linear",
    adapters: halves,
    metadata: { made: "by a test" },
  });
  assert.equal(status, 201, JSON.stringify(body));
  assert.equal((body.parents as string[]).length, 2);
  const { reconstruction_error, distance_to_sum } = body.merge as Record<string, { total: number }>;
  assert.ok(reconstruction_error!.total < 1e-4 && distance_to_sum!.total < 1e-4);
  const merged = await complete({ model: "merged" });
  const composed = await complete({ adapters: halves });
  assert.equal(composed.model, tinyName);
  assert.equal(composed.text, merged.text);
  assertClose(composed.logprobs, merged.logprobs);
  const [base, one] = [await complete({}), await complete({ model: "orders-json" })];
  for (const other of [base, one]) assert.notDeepEqual(composed.logprobs, other.logprobs);
  const reversed = await complete({ adapters: halves.toReversed() });
  assert.deepEqual(reversed, composed);
});

test("a merge at a lower rank reports what that lost", async () => {
  const errors: number[] = [];
  for (const rank of [1, 8]) {
    const body = {
      id: `svd-${rank}`,
      method: "svd",
      rank,
      adapters: halves,
      lines: { alpha: 0.5, beta: 0.5 },
    };
    const answer = await post("/v1/adapters/merge", body);
    assert.equal(answer.status, 201, JSON.stringify(answer.body));
    assert.deepEqual((answer.body.ranks as { max: number }).max, rank);
    errors.push(
      (answer.body.merge as { reconstruction_error: { total: number } }).reconstruction_error.total,
    );
    await complete({ model: `svd-${rank}` });
  }
  assert.ok(errors[0]! > errors[1]! && errors[1]! > 0, `${errors}`);
  const lacking = await post("/v1/adapters/merge", { id: "x", method: "svd", adapters: halves });
  assert.equal(lacking.body.error.code, "merge_parameter_invalid");
});

test("one adapter with weight 1 is that adapter, the base alone the base, bit for bit", async () => {
  const plain = await complete({ model: "orders-json" });
  assert.deepEqual(await complete({ adapters: [{ id: "orders-json", weight: 1 }] }), plain);
  const layers = JSON.parse(readFileSync(join(tinyDirectory, "config.json"), "utf8")).num_hidden_layers;
  const byLayers = [{ from: 0, to: layers - 1, weight: 1 }];
  const ranged = await complete({ adapters: [{ id: "orders-json", weight: 0, layers: byLayers }] });
  assert.deepEqual(ranged.logprobs, plain.logprobs);
  const base = await complete({});
  assert.deepEqual(await complete({ adapters: [{ id: tinyName, weight: 1 }] }), base);
  const firstHalf = [{ from: 0, to: 0, weight: 1 }];
  const partly = await complete({ adapters: [{ id: "orders-json", weight: 0, layers: firstHalf }] });
  assert.notDeepEqual(partly.logprobs, plain.logprobs);
  assert.notDeepEqual(partly.logprobs, base.logprobs);
});

test("what adapters cannot mean is refused by name", async () => {
  const ask = (fields: Json) => post("/v1/completions", { model: tinyName, prompt, ...fields });
  const refusals: readonly [Json, string, string | null][] = [
    [{ model: "orders-json", adapters: halves }, "adapters_conflict", "adapters"],
    [{ adapter_id: "orders-json", adapters: halves }, "adapters_conflict", "adapters"],
    [{ adapters: halves, mode: "average" }, "invalid_value", "mode"],
    [
      {
        adapters: [{ id: "orders-json", weight: 1, layers: [{ from: 0, to: 0, weight: 2 }] }],
        mode: "logits",
      },
      "invalid_value",
      "adapters",
    ],
    [{ adapters: [{ id: "nobody", weight: 1 }] }, "model_not_found", "adapters[0].id"],
    [{ adapters: [{ id: "orders-json" }] }, "invalid_value", "adapters[0].weight"],
    [{ adapters: [] }, "composition_invalid", null],
    [{ adapters: [{ id: "orders-json", weight: 1e30 }] }, "adapter_values_too_large", null],
  ];
  for (const [fields, code, param] of refusals) {
    const { status, body } = await ask(fields);
    assert.deepEqual([body.error.code, body.error.param], [code, param], JSON.stringify(body));
    assert.ok(status === 400 || status === 404);
  }
  const linear = await complete({ adapters: halves, mode: "linear" });
  assert.deepEqual(linear, await complete({ adapters: halves }));
});

test("logits of an adapter and the base are blended, and bounded by the rows there are", async () => {
  const plain = await complete({ model: "orders-json" });
  const whole = [{ id: "orders-json", weight: 1 }];
  assert.deepEqual(await complete({ adapters: whole, mode: "logits" }), plain);
  const mostly = await complete({ adapters: [{ id: "orders-json", weight: 0.9 }], mode: "logits" });
  assert.equal(mostly.text, plain.text);
  assert.notDeepEqual(mostly.logprobs, plain.logprobs);
  const none = await complete({ adapters: [{ id: "orders-json", weight: 1e-9 }], mode: "logits" });
  assert.equal(none.text, (await complete({})).text);
});

test("derived versions have no name in any listing or metric", async () => {
  await complete({ adapters: halves });
  for (const path of ["/v1/models", "/v1/adapters", "/metrics"]) {
    const text = await (await fetch(`${server.url}${path}`)).text();
    assert.doesNotMatch(text, /compose:|candidate:/, path);
  }
});

test("an upload may ask to be stored compressed", async () => {
  const form = new FormData();
  form.append("id", "uploaded");
  form.append("compress", "int8");
  const directory = join(adaptersDirectory, demos[0]!.adapter);
  let sizeBytes = "notes".length;
  for (const name of readdirSync(directory)) {
    const content = readFileSync(join(directory, name));
    sizeBytes += content.length;
    form.append("files", new File([content], name));
  }
  form.append("files", new File(["notes"], "README.md"));
  const { status, body } = await post("/v1/adapters", form);
  assert.equal(status, 201, JSON.stringify(body));
  assert.ok((body.files_ignored as string[]).includes("README.md"));
  const { bytes_before, bytes_after } = body.compression as Record<string, number>;
  assert.equal(bytes_before, sizeBytes);
  assert.equal(body.uploaded_bytes, sizeBytes);
  assert.ok(bytes_after! < sizeBytes / 1.8 && bytes_after === body.stored_bytes);
  assert.equal(await answerTo(demos[0]!, "uploaded"), demos[0]!.completion);
  const unknown = new FormData();
  unknown.append("id", "uploaded");
  unknown.append("compress", "zip");
  unknown.append("files", new File(["x"], "x.cotenant"));
  const refused = await post("/v1/adapters", unknown);
  assert.equal(refused.body.error.param, "compress.method");
});

test("a part of what runs is not deleted, or only once that is done", async () => {
  for (const id of ["part", "other"]) {
    await post(`/v1/adapters/${id === "part" ? "orders-json" : "house-style"}/compress`, {
      method: "int4",
      alias: id,
    });
  }
  const adapters = ["part", "other"].map((id) => ({ id, weight: 0.5 }));
  const body = { model: tinyName, prompt, max_tokens: 200, temperature: 0, ignore_eos: true, adapters };
  const stream = await server.client.completions.create({ ...body, stream: true });
  const remove = (query: string) => fetch(`${server.url}/v1/adapters/part${query}`, { method: "DELETE" });
  let chunks = 0;
  for await (const _ of stream) {
    if (chunks++ > 0) continue;
    const refused = await remove("");
    assert.equal(refused.status, 409);
    assert.ok((await remove("?force=true")).ok);
  }
  assert.ok(chunks > 100);
  const gone = await post("/v1/completions", body);
  assert.equal(gone.body.error.code, "model_not_found");
});

test("compositions that do not fit together are evicted and made again, and change no text", async () => {
  const lists = [0.25, 0.5, 0.75].map((weight) => [{ ...halves[0]!, weight }, halves[1]!]);
  const roomy = await Promise.all(lists.map((adapters) => complete({ adapters })));
  await using small = await startTiny({ adaptersDirectory, hostCacheBytes: 3_100_000 });
  for (let round = 0; round < 2; round++) {
    const tight = await Promise.all(lists.map((adapters) => complete({ adapters }, small.url)));
    assert.deepEqual(tight, roomy);
  }
});

test("compression reports how far outputs moved, and finds the smallest form within a limit", async () => {
  const first = await post("/v1/adapters/orders-json/compress", { method: "int8", alias: "measured" });
  const { outputs, ratio } = first.body.compression as Report;
  assert.ok(outputs.mean_kl >= 0 && outputs.mean_kl < 0.05, `${outputs.mean_kl}`);
  assert.ok(outputs.top1_agreement > 0.95 && outputs.tokens > 50);
  const within = async (maxKl: number) => {
    const body = { max_kl: maxKl, alias: "within", prompts: demos.map((demo) => demo.prompt) };
    const answer = await post("/v1/adapters/orders-json/compress", body);
    assert.equal(answer.status, 201, JSON.stringify(answer.body));
    const report = answer.body.compression as Report;
    assert.ok(report.outputs.mean_kl <= maxKl);
    return report.ratio;
  };
  const [loose, tight] = [await within(1), await within(outputs.mean_kl + 1e-3)];
  assert.ok(loose >= tight && loose > ratio);
});
