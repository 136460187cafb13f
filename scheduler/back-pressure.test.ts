// Bounded queues, timeouts, and how much prompt is read between two tokens, on a device of known speed.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { requestOf } from "./generation-request-fixture.ts";
import { HistoryRunner } from "./history-runner-fixture.ts";
import { EngineLoop } from "./loop.ts";
import type { FromEngine, GenerationRequest } from "./protocol.ts";
import { checkRequest } from "./request-check.ts";
import { defaultScheduling, type SchedulingOptions } from "./scheduling-options.ts";

type Options = { readonly scheduling?: Partial<SchedulingOptions>; readonly chunkMs?: number };

function startLoop({ scheduling = {}, chunkMs = 0 }: Options = {}) {
  const runner = new HistoryRunner({ maxRows: 2, maxContext: 4096, kvTokens: 100_000 });
  const prefill = runner.prefill.bind(runner);
  runner.prefill = async (chunk) => {
    if (chunkMs > 0) await sleep(chunkMs);
    return prefill(chunk);
  };
  const posted: FromEngine[] = [];
  const loop = new EngineLoop({
    runner,
    scheduling: { ...defaultScheduling, ...scheduling },
    chunkTokens: 4,
    promptTokensPerStep: 1000,
    eosTokenIds: [],
    vocabSize: runner.vocabSize,
    post: (message) => void posted.push(message),
  });
  const submit = (changes: Partial<GenerationRequest>) =>
    loop.receive({ type: "submit", request: requestOf(changes) });
  const refused = () => posted.flatMap((message) => (message.type === "refused" ? [message] : []));
  const tokens = (id: string) =>
    posted
      .flatMap((message) => (message.type === "events" ? message.events : []))
      .filter(([one, event]) => one === id && event.type === "token").length;
  return { loop, runner, submit, refused, tokens };
}

const tenantOf = (id: string) => ({ id, weight: 1, rowsAtOnce: null });

test("a full queue refuses with the time after which another try is worth it; free rows are no queue", async () => {
  const { loop, submit, refused } = startLoop({ scheduling: { maxQueue: 3 } });
  for (let index = 0; index < 8; index++) submit({ id: `r${index}` });
  await loop.idle();
  assert.deepEqual(
    refused().map(({ id, code }) => [id, code]),
    [5, 6, 7].map((index) => [`r${index}`, "queue_full"]),
  );
  assert.ok(refused().every(({ retryAfterMs }) => retryAfterMs !== null && retryAfterMs >= 100));
  assert.equal(loop.stats().refusedForLoad, 3);
});

test("a blend takes as many of the free rows as it has models", async () => {
  const members = [1, 2].map((weight) => ({ adapterVersion: null, weight }));
  for (const startsWith of ["blend", "single"]) {
    const { loop, submit, refused } = startLoop({ scheduling: { maxQueue: 2 } });
    if (startsWith === "single") submit({ id: "single" });
    submit({ id: "blend", blend: { type: "logits", members } });
    for (let index = 0; index < 3; index++) submit({ id: `r${index}` });
    await loop.idle();
    // Either both rows are the blend's, or one is left, which a single one takes in passing the blend.
    assert.deepEqual(
      refused().map(({ id }) => id),
      ["r2"],
      startsWith,
    );
  }
});

test("a prompt whose rows have no memory for the token after it is refused, and does not fail in its step", async () => {
  const members = [1, 1].map((weight) => ({ adapterVersion: null, weight }));
  const runner = new HistoryRunner({ maxRows: 2, maxContext: 4096, kvTokens: 12 });
  const check = (promptTokens: number) =>
    checkRequest(
      requestOf({
        promptTokenIds: Array<number>(promptTokens).fill(5),
        maxTokens: 0,
        blend: { type: "compare", members },
      }),
      { runner, vocabSize: 64, isKnown: () => true, maxAdapters: 2 },
    );
  assert.equal(check(5), null);
  assert.equal(check(6)?.code, "request_too_large");
});

test("one tenant's full queue refuses nobody else", async () => {
  const { loop, submit, refused } = startLoop({ scheduling: { maxQueuePerTenant: 2 } });
  for (let index = 0; index < 6; index++) submit({ id: `flood${index}`, tenant: tenantOf("flood") });
  submit({ id: "steady", tenant: tenantOf("steady") });
  await loop.idle();
  assert.deepEqual(
    refused().map(({ id }) => id),
    ["flood4", "flood5"],
  );
});

test("after measured runs, a longer queue is worth a longer wait", async () => {
  const retryAfterMs = async (waiting: number) => {
    const { loop, submit, refused } = startLoop({ scheduling: { maxQueue: waiting }, chunkMs: 2 });
    for (let index = 0; index < 14; index++) submit({ id: `warm${index}`, maxTokens: 4 });
    await loop.idle();
    const before = refused().length;
    const promptTokenIds = Array<number>(200).fill(5);
    for (let index = 0; index < waiting + 3; index++)
      submit({ id: `r${index}`, promptTokenIds, maxTokens: 1 });
    loop.receive({ type: "close" });
    await loop.idle();
    return refused()[before]!.retryAfterMs!;
  };
  const [short, long] = [await retryAfterMs(14), await retryAfterMs(56)];
  // 50 chunks of at least 2 ms per request, half of the queue
  assert.ok(short >= 0.5 * 14 * 100 * 0.8, `${short} ms`);
  assert.ok(long > 2 * short, `${long} ms after ${short} ms`);
});

test("a request that does not end in time ends with request_timed_out, waiting or running; the others go on", async () => {
  const { loop, submit, refused, tokens } = startLoop({ chunkMs: 4 });
  const promptTokenIds = Array<number>(40).fill(5); // 10 chunks, 40 ms
  submit({ id: "running", promptTokenIds, maxTokens: 1000, timeoutMs: 60 });
  submit({ id: "fine", promptTokenIds, maxTokens: 3, timeoutMs: 60_000 });
  submit({ id: "waiting", promptTokenIds, maxTokens: 1000, timeoutMs: 20 });
  await loop.idle();
  const codes = refused().map(({ id, code, retryAfterMs }) => [id, code, retryAfterMs]);
  assert.deepEqual(codes.sort(), [
    ["running", "request_timed_out", null],
    ["waiting", "request_timed_out", null],
  ]);
  assert.equal(tokens("fine"), 3);
  assert.equal(loop.stats().timedOut, 2);
  assert.equal(loop.stats().running + loop.stats().waiting, 0);
});

/** Most chunks of a long prompt that ran between two tokens of another request. */
async function chunksBetweenTokens(tpotTargetMs: number): Promise<number> {
  const { loop, runner, submit } = startLoop({ scheduling: { tpotTargetMs }, chunkMs: 4 });
  submit({ id: "steady", maxTokens: 200 });
  submit({ id: "warm", promptTokenIds: Array<number>(80).fill(5), maxTokens: 1 }); // the model learns what chunks take
  submit({ id: "long", promptTokenIds: Array<number>(400).fill(5), maxTokens: 1 });
  await loop.idle();
  const isSteady = ({ kind, sequences }: (typeof runner.runs)[number]) =>
    kind === "decode" && sequences.includes("steady");
  const [first, last] = [runner.runs.findIndex(isSteady), runner.runs.findLastIndex(isSteady)];
  let most = 0;
  let between = 0;
  for (const { kind, sequences } of runner.runs.slice(first, last)) {
    if (kind === "prefill") between++;
    else if (sequences.includes("steady")) between = 0;
    most = Math.max(most, between);
  }
  return most;
}

test("between two tokens, prompts take what fits the target by the model, and one chunk in any case", async () => {
  assert.equal(await chunksBetweenTokens(1), 1);
  const some = await chunksBetweenTokens(21);
  assert.ok(some > 1 && some <= 6, `${some} chunks of 4 ms`);
});
