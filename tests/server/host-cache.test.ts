// A server whose memory has room for fewer adapters than its requests name writes what one with room for all writes.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { until } from "../until.ts";
import { tinyDirectory } from "./scripted-app.ts";
import { startTiny, type TinyServer, tinyName } from "./start-tiny.ts";

const adaptersDirectory = join(tinyDirectory, "adapters");
const prompts = ["Order 12 boxes of", "A review:"];

async function textsOf(hostCacheBytes: number): Promise<Map<string, string>> {
  await using server = await startTiny({ adaptersDirectory, hostCacheBytes });
  const texts = new Map<string, string>();
  const models = [tinyName, ...server.adapters];
  assert.ok(models.length > 4);
  const ask = async (model: string, prompt: string) => {
    const { choices } = await server.client.completions.create({
      model,
      prompt,
      max_tokens: 12,
      temperature: 0,
    });
    texts.set(`${model}: ${prompt}`, choices[0]!.text);
  };
  await Promise.all(prompts.flatMap((prompt) => models.map((model) => ask(model, prompt))));
  return texts;
}

test("more adapters than fit at once change no text", async () => {
  const all = await textsOf(2 ** 28);
  assert.ok(new Set(all.values()).size > prompts.length); // adapters do something
  // The largest takes nearly all of it, all six together twice as much.
  const few = await textsOf(3_600_000);
  assert.deepEqual([...few].sort(), [...all].sort());
});

test("an adapter larger than the memory for all is refused with the option to change", async () => {
  await using server = await startTiny({ adaptersDirectory, hostCacheBytes: 1000 });
  const model = server.adapters[0]!;
  const answer = server.client.completions.create({ model, prompt: "x", max_tokens: 1 });
  await assert.rejects(answer, { status: 413, code: "adapter_larger_than_cache" });
  const base = await server.client.completions.create({ model: tinyName, prompt: "x", max_tokens: 1 });
  assert.equal(base.choices.length, 1);
});

test("what --adapters gives is in memory before anybody asks, as far as there is room", async () => {
  const tiersOf = ({ url, adapters }: TinyServer) =>
    Promise.all(
      adapters.map(async (id) => {
        const answer = await fetch(`${url}/v1/adapters/${id}`);
        return ((await answer.json()) as { residency: { tier: string } }).residency.tier;
      }),
    );
  {
    await using server = await startTiny({ adaptersDirectory, hostCacheBytes: 2 ** 28 });
    await until(async () => (await tiersOf(server)).every((tier) => tier === "host"));
  }
  await using server = await startTiny({ adaptersDirectory, hostCacheBytes: 3_600_000 });
  await until(async () => (await tiersOf(server)).includes("host"));
  const few = await tiersOf(server);
  assert.ok(few.includes("store"), few.join());
  assert.equal(few.lastIndexOf("host") + 1, few.indexOf("store"), "in the order of their names");
});
