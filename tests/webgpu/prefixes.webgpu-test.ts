// The prefix cache on the device: a prompt that begins like one before computes only the rest, to the same result,
// within its scope and version, also where the cache drops a block before it was copied.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { prefixBlockTokens } from "../../kernels/cpu/prefix-cache.ts";
import type { ModelRunner } from "../../kernels/model-runner.ts";
import { openWebgpuModel } from "../../kernels/webgpu/webgpu-model.ts";
import { WebgpuRunner } from "../../kernels/webgpu/webgpu-runner.ts";
import {
  distance,
  goldenAdapter,
  goldenCase,
  logitRow,
  logSoftmax,
  openGolden,
  temporaryCache,
} from "../golden/golden-case.ts";

const tolerance = 2e-4; // on log-probabilities
const golden = goldenCase("llama");
const cacheDirectory = temporaryCache();
const limits = { maxRows: 4, maxContext: 256 };
const { runner: cpu, base } = await openGolden(golden, { cacheDirectory, ...limits });
const opening = {
  modelDirectory: golden.directory,
  cacheDirectory,
  encoding: "float32",
  threads: 1,
} as const;
const model = await openWebgpuModel({ ...opening, onProgress: () => undefined });
const maxPrefixBytes = 1.5 * cpu.kvBytesOf(prefixBlockTokens); // a block, and no second one
const runner = await WebgpuRunner.open(model, { ...limits, maxPrefixBytes });
runner.addAdapter("wide", goldenAdapter(golden, "wide", base));
after(async () => {
  await runner.dispose();
  await cpu.dispose();
});

type Asked = {
  readonly prompt: readonly number[];
  readonly version?: string | null;
  readonly scope?: string;
};

const promptOf = (seed: number) =>
  Array.from({ length: 140 }, (_, index) => 4 + ((seed * 37 + index * 11) % 150));
const opened = (device: ModelRunner, id: string, { prompt, version = null, scope = "a" }: Asked) =>
  device.open(id, { adapterVersion: version, prefix: { scope, tokenIds: prompt } }).cachedTokens;

async function finish(device: ModelRunner, id: string, prompt: readonly number[], from: number) {
  for (let at = from; ; at += prefixBlockTokens) {
    const tokenIds = prompt.slice(at, at + prefixBlockTokens);
    const isLast = at + tokenIds.length === prompt.length;
    const chunk = { sequence: id, tokenIds, promptLength: prompt.length };
    const logits = await device.prefill({ ...chunk, logits: isLast ? "last" : "none" });
    if (!isLast) continue;
    const found = [logSoftmax(logitRow(logits, 0))]; // before the next call: the CPU lends them until then
    found.push(logSoftmax(logitRow(await device.decode([{ sequence: id, tokenId: 9 }]), 0)));
    device.close(id);
    return found;
  }
}

async function check(asked: Asked, expectedCached: number): Promise<void> {
  const cached = opened(runner, "one", asked);
  assert.equal(cached, expectedCached);
  await checkRest("one", asked, cached);
}

async function checkRest(id: string, asked: Asked, cached: number): Promise<void> {
  const found = await finish(runner, id, asked.prompt, cached);
  opened(cpu, "alone", asked);
  for (const [index, expected] of (await finish(cpu, "alone", asked.prompt, 0)).entries()) {
    const worst = distance(found[index]!, expected);
    assert.ok(worst <= tolerance, `result ${index}: ${worst}`);
  }
}

test("blocks are found again by the same scope and version only, and say what they saved", async () => {
  const prompt = promptOf(1);
  await check({ prompt }, 0);
  await check({ prompt }, 128);
  const others: [Asked, number][] = [
    [{ prompt, scope: "b" }, 0],
    [{ prompt, version: "wide" }, 0],
    [{ prompt: [...prompt.slice(0, 100), ...promptOf(2).slice(100)] }, 0],
    [{ prompt: [...prompt.slice(0, 130), 9] }, 128],
  ];
  for (const [asked, expected] of others) {
    assert.equal(opened(runner, "other", asked), expected);
    runner.close("other"); // and never copied
  }
  const { prefixHitTokens, prefixQueriedTokens, prefixBytes } = runner.stats();
  assert.deepEqual([prefixHitTokens, prefixQueriedTokens], [256, 5 * 140 + 131]);
  assert.ok(prefixBytes > 0 && prefixBytes <= maxPrefixBytes);
});

test("a block that is dropped before its sequence copied it is there all the same", async () => {
  const asked = { prompt: promptOf(1) };
  assert.equal(opened(runner, "late", asked), 128);
  await check({ prompt: promptOf(4) }, 0); // takes its place
  assert.equal(opened(runner, "gone", asked), 0);
  runner.close("gone");
  await checkRest("late", asked, 128);
});
