// Logits of several models combined, and compared, by the real engine's loop on a golden checkpoint, against the same
// logits computed one model at a time.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { CpuRunner } from "../kernels/cpu/cpu-runner.ts";
import { argmax } from "../kernels/sampling/logprobs.ts";
import { compareVersions } from "../scheduler/compare.ts";
import { requestOf } from "../scheduler/generation-request-fixture.ts";
import { EngineLoop } from "../scheduler/loop.ts";
import type { FromEngine, GenerationEvent, GenerationRequest } from "../scheduler/protocol.ts";
import { defaultScheduling } from "../scheduler/scheduling-options.ts";
import { goldenAdapter, goldenCase, logSoftmax, openGolden, temporaryCache } from "./golden/golden-case.ts";

const golden = goldenCase("llama");
const { base, runner } = await openGolden(golden, { cacheDirectory: temporaryCache(), maxRows: 4 });
const { vocabSize } = base.config;
const prompt = [5, 90, 33, 12, 151, 7, 64, 21, 8];
const names = ["wide", "narrow"] as const;

/** The events of one request. */
async function* generate(request: GenerationRequest): AsyncGenerator<GenerationEvent> {
  const events: GenerationEvent[] = [];
  const post = (message: FromEngine) => {
    assert.notEqual(message.type, "refused", JSON.stringify(message));
    if (message.type === "events") events.push(...message.events.map(([, event]) => event));
  };
  const options = { runner, scheduling: defaultScheduling, chunkTokens: 128, promptTokensPerStep: 512 };
  const loop = new EngineLoop({ ...options, eosTokenIds: [], vocabSize, post });
  for (const version of names) {
    loop.receive({ type: "add-adapter", version, adapter: goldenAdapter(golden, version, base) });
  }
  loop.receive({ type: "submit", request });
  await loop.idle();
  yield* events;
}

/** Logits [vocab] after each token. */
async function logitsOf(runner: CpuRunner, adapterVersion: string | null, tokenIds: readonly number[]) {
  runner.open("alone", { adapterVersion, prefix: null });
  const chunk = { sequence: "alone", tokenIds, promptLength: tokenIds.length, logits: "all" } as const;
  const { data } = await runner.prefill(chunk);
  runner.close("alone");
  return Array.from(tokenIds, (_, row) => data.slice(row * vocabSize, (row + 1) * vocabSize));
}

test("base + 2 (wide - base) - 0.5 (narrow - base), token by token", async () => {
  const members = [
    { adapterVersion: null, weight: 1 - 2 + 0.5 },
    { adapterVersion: "wide", weight: 2 },
    { adapterVersion: "narrow", weight: -0.5 },
  ];
  const request = requestOf({
    promptTokenIds: prompt,
    blend: { type: "logits", members },
    maxTokens: 5,
    logprobs: 1,
  });
  const text: number[] = [];
  for await (const event of generate(request)) {
    if (event.type !== "token") continue;
    const rows: Float32Array[] = [];
    for (const { adapterVersion } of members) {
      rows.push((await logitsOf(runner, adapterVersion, [...prompt, ...text])).at(-1)!);
    }
    const expected = rows[0]!.map((_, id) =>
      members.reduce((sum, { weight }, member) => sum + weight * rows[member]![id]!, 0),
    );
    assert.equal(event.tokenId, argmax(expected));
    assert.ok(Math.abs(event.logprob!.logprob - logSoftmax(expected)[event.tokenId]!) < 1e-3);
    text.push(event.tokenId);
  }
  assert.equal(text.length, 5);
});

test("one member of weight 1 is that adapter", async () => {
  const ask = async (changes: Partial<GenerationRequest>) => {
    const text: number[] = [];
    for await (const event of generate(requestOf({ promptTokenIds: prompt, ...changes }))) {
      if (event.type === "token") text.push(event.tokenId);
    }
    return text;
  };
  const blend = { type: "logits", members: [{ adapterVersion: "wide", weight: 1 }] } as const;
  assert.deepEqual(await ask({ adapterVersion: "wide", blend }), await ask({ adapterVersion: "wide" }));
});

test("divergence of an adapter from the base, and from itself", async () => {
  const prompts = [prompt, prompt.toReversed().slice(2)];
  const tenant = { id: "tenant", weight: 1, rowsAtOnce: null };
  const compare = (a: string | null, b: string | null) =>
    compareVersions({ generate }, { id: "compare", tenant, a, b, prompts });
  const divergences: number[] = [];
  let agreeing = 0;
  for (const tokenIds of prompts) {
    const [one, other] = [await logitsOf(runner, "wide", tokenIds), await logitsOf(runner, null, tokenIds)];
    for (const [row, logits] of one.entries()) {
      const [p, q] = [logSoftmax(logits), logSoftmax(other[row]!)];
      divergences.push(p.reduce((sum, logprob, id) => sum + Math.exp(logprob) * (logprob - q[id]!), 0));
      if (argmax(logits) === argmax(other[row]!)) agreeing++;
    }
  }
  const found = await compare("wide", null);
  assert.equal(found.tokens, divergences.length);
  const mean = divergences.reduce((sum, kl) => sum + kl, 0) / divergences.length;
  assert.ok(mean > 0.001, "the adapter changes the output");
  assert.ok(Math.abs(found.meanKl - mean) < 1e-4 * mean + 1e-6, `${found.meanKl} against ${mean}`);
  assert.ok(Math.abs(found.maxKl - Math.max(...divergences)) < 1e-4);
  assert.ok(Math.abs(found.top1Agreement - agreeing / divergences.length) < 1e-9);
  const itself = await compare("wide", "wide");
  assert.ok(itself.maxKl < 1e-6 && itself.top1Agreement === 1);
});

test("the end", async () => runner.dispose());
