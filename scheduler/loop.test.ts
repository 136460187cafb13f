// The loop on the real CPU device and the golden Llama: every request's text must be the golden one, whatever joins,
// leaves, is cancelled, refused or removed around it.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import type { ModelRunner } from "../kernels/model-runner.ts";
import { goldenAdapter, goldenCase, openGolden, temporaryCache } from "../tests/golden/golden-case.ts";
import { requestOf } from "./generation-request-fixture.ts";
import { EngineLoop } from "./loop.ts";
import type { FromEngine, GenerationRequest } from "./protocol.ts";
import { defaultScheduling, type SchedulingOptions } from "./scheduling-options.ts";

const golden = goldenCase("llama");
const { base, runner } = await openGolden(golden, {
  cacheDirectory: temporaryCache(),
  maxRows: 4,
  maxContext: 128,
});
after(() => runner.dispose());

type StartOptions = {
  readonly onPost?: (message: FromEngine) => void;
  readonly runner?: ModelRunner;
  readonly scheduling?: Partial<SchedulingOptions>;
};

/** A loop and what it posted; `onPost` sees each message as it is posted. */
function startLoop(options: StartOptions = {}) {
  const posted: FromEngine[] = [];
  const loop = new EngineLoop({
    runner: options.runner ?? runner,
    scheduling: { ...defaultScheduling, policy: "first-come", ...options.scheduling },
    chunkTokens: 7,
    promptTokensPerStep: 16,
    eosTokenIds: base.eosTokenIds,
    vocabSize: base.config.vocabSize,
    post(message) {
      posted.push(message);
      options.onPost?.(message);
    },
  });
  const events = (id: string) =>
    posted.flatMap((message) =>
      message.type === "events" ? message.events.flatMap(([one, event]) => (one === id ? [event] : [])) : [],
    );
  const tokens = (id: string) =>
    events(id).flatMap((event) => (event.type === "token" ? [event.tokenId] : []));
  const refusals = () =>
    posted.flatMap((message) => (message.type === "refused" ? [[message.id, message.code]] : []));
  return { loop, posted, events, tokens, refusals };
}

function goldenRequest(run: number, changes: Partial<GenerationRequest> = {}): GenerationRequest {
  const { prompt, adapter } = golden.runs[run]!;
  const promptTokenIds = golden.prompts[prompt]!;
  return requestOf({ id: `run-${run}`, promptTokenIds, adapterVersion: adapter, maxTokens: 24, ...changes });
}

const submit = (request: GenerationRequest) => ({ type: "submit", request }) as const;

/** Steps until nothing is left to do; every row is free again. */
async function finish({ loop, posted }: ReturnType<typeof startLoop>): Promise<void> {
  await loop.idle();
  const last = posted.at(-1);
  assert.ok(last?.type === "stats");
  assert.deepEqual([last.stats.running, last.stats.waiting, last.stats.kvTokensUsed], [0, 0, 0]);
}

test("more requests than rows, all at once: each gets its golden text and finishes once", async () => {
  const started = startLoop();
  for (const run of golden.runs.keys()) started.loop.receive(submit(goldenRequest(run)));
  await finish(started);
  for (const [run, { greedy }] of golden.runs.entries()) {
    assert.deepEqual(started.tokens(`run-${run}`), greedy);
    const finished = started.events(`run-${run}`).filter(({ type }) => type === "finished");
    assert.equal(finished.length, 1);
  }
});

test("requests that are submitted while others run", async () => {
  const started = startLoop({
    onPost(message) {
      if (message.type !== "events") return;
      steps++;
      if (steps % 3 === 0 && next < golden.runs.length) started.loop.receive(submit(goldenRequest(next++)));
    },
  });
  let steps = 0;
  let next = 1;
  started.loop.receive(submit(goldenRequest(0)));
  await finish(started);
  assert.equal(next, golden.runs.length);
  for (const [run, { greedy }] of golden.runs.entries())
    assert.deepEqual(started.tokens(`run-${run}`), greedy);
});

test("a cancelled request leaves at the next step, waiting, prefilling or decoding; the others do not notice", async () => {
  const cancelled = { waiting: "run-8", prefilling: "run-7", decoding: "run-0" }; // 7 has 12 tokens of prompt
  const started = startLoop({
    onPost(message) {
      if (message.type !== "events") return;
      steps++;
      if (steps === 1) started.loop.receive({ type: "cancel", id: cancelled.waiting });
      if (steps === 3) started.loop.receive({ type: "cancel", id: cancelled.decoding });
      if (steps === 4) started.loop.receive(submit(goldenRequest(7, { promptTokenIds: Array(60).fill(9) })));
      if (steps === 6) started.loop.receive({ type: "cancel", id: cancelled.prefilling });
      if (steps === 7) started.loop.receive({ type: "cancel", id: "nobody" });
    },
  });
  let steps = 0;
  for (const run of [0, 1, 3, 4, 8]) started.loop.receive(submit(goldenRequest(run)));
  await finish(started);
  for (const run of [1, 3, 4]) assert.deepEqual(started.tokens(`run-${run}`), golden.runs[run]!.greedy);
  assert.deepEqual(started.events(cancelled.waiting), []);
  assert.deepEqual(started.events(cancelled.prefilling), []);
  const partial = started.tokens(cancelled.decoding);
  assert.ok(partial.length > 0 && partial.length < 24);
  assert.deepEqual(partial, golden.runs[0]!.greedy.slice(0, partial.length));
  assert.ok(started.events(cancelled.decoding).every(({ type }) => type === "token"));
});

test("an adapter that is removed while in use stays for those who use it and is refused to others", async () => {
  const wide = golden.runs.findIndex(({ adapter }) => adapter === "wide");
  const started = startLoop({
    onPost(message) {
      if (message.type !== "events" || removed) return;
      removed = true;
      started.loop.receive({ type: "remove-adapter", version: "temporary" });
      started.loop.receive(submit(goldenRequest(wide, { id: "late", adapterVersion: "temporary" })));
    },
  });
  let removed = false;
  const adapter = goldenAdapter(golden, "wide", base);
  started.loop.receive({ type: "add-adapter", version: "temporary", adapter });
  started.loop.receive(submit(goldenRequest(wide, { adapterVersion: "temporary" })));
  await finish(started);
  assert.deepEqual(started.tokens(`run-${wide}`), golden.runs[wide]!.greedy);
  assert.deepEqual(started.refusals(), [["late", "adapter_not_found"]]);
  assert.ok(!runner.hasAdapter("temporary"));
  const replies = started.posted.map(({ type }) => type).filter((type) => type.startsWith("adapter-"));
  assert.deepEqual(replies, ["adapter-added", "adapter-removed"]);
});

test("an adapter that is added again before its last user left stays", async () => {
  const wide = golden.runs.findIndex(({ adapter }) => adapter === "wide");
  const started = startLoop();
  const adapter = goldenAdapter(golden, "wide", base);
  started.loop.receive({ type: "add-adapter", version: "again", adapter });
  started.loop.receive(submit(goldenRequest(wide, { adapterVersion: "again" })));
  started.loop.receive({ type: "remove-adapter", version: "again" });
  started.loop.receive({ type: "add-adapter", version: "again", adapter });
  started.loop.receive(submit(goldenRequest(wide, { id: "second", adapterVersion: "again" })));
  await finish(started);
  assert.deepEqual(started.tokens("second"), golden.runs[wide]!.greedy);
  assert.ok(runner.hasAdapter("again"));
  started.loop.receive({ type: "remove-adapter", version: "again" });
  await started.loop.idle();
  assert.ok(!runner.hasAdapter("again"));
});

test("what would break a step is refused with its code, and the others run on", async () => {
  const started = startLoop();
  const { loop } = started;
  loop.receive(submit(goldenRequest(1)));
  loop.receive(submit(goldenRequest(1)));
  loop.receive(submit(requestOf({ id: "empty", promptTokenIds: [] })));
  loop.receive(submit(requestOf({ id: "long", promptTokenIds: Array(100).fill(5), maxTokens: 29 })));
  loop.receive(submit(requestOf({ id: "vocabulary", promptTokenIds: [5, base.config.vocabSize] })));
  loop.receive(submit(requestOf({ id: "negative", promptTokenIds: [-1] })));
  loop.receive(submit(requestOf({ id: "fraction", promptTokenIds: [1.5] })));
  loop.receive(submit(requestOf({ id: "adapter", adapterVersion: "unheard of" })));
  loop.receive(submit(requestOf({ id: "fits", promptTokenIds: Array(100).fill(5), maxTokens: 28 })));
  await finish(started);
  assert.deepEqual(started.refusals(), [
    ["run-1", "duplicate_request"],
    ["empty", "context_length_exceeded"],
    ["long", "context_length_exceeded"],
    ["vocabulary", "invalid_token_id"],
    ["negative", "invalid_token_id"],
    ["fraction", "invalid_token_id"],
    ["adapter", "adapter_not_found"],
  ]);
  assert.deepEqual(started.tokens("run-1"), golden.runs[1]!.greedy);
  assert.equal(started.tokens("fits").length, 28);
});

test("a failed run ends the sequences that were in it, and nothing else", async () => {
  let failures = 1;
  const failing = new Proxy(runner, {
    get(target, name) {
      if (name === "prefill") {
        return (chunk: Parameters<ModelRunner["prefill"]>[0]) => {
          if (chunk.sequence !== "run-2" || failures-- === 0) return target.prefill(chunk);
          return Promise.reject(new Error("the device is on fire"));
        };
      }
      const value = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  const started = startLoop({ runner: failing });
  for (const run of [0, 1, 2]) started.loop.receive(submit(goldenRequest(run)));
  await finish(started);
  assert.deepEqual(started.refusals(), [["run-2", "engine_step_failed"]]);
  for (const run of [0, 1]) assert.deepEqual(started.tokens(`run-${run}`), golden.runs[run]!.greedy);
});

test("prompt log-probabilities, in chunks and with no token to make, are the golden ones", async () => {
  const started = startLoop();
  const run = golden.runs.findIndex(({ prompt, adapter }) => prompt === 2 && adapter === "narrow");
  started.loop.receive(submit(goldenRequest(run, { maxTokens: 0, promptLogprobs: 0 })));
  await finish(started);
  const [prompt, finished] = started.events(`run-${run}`);
  assert.ok(prompt?.type === "prompt" && finished?.type === "finished");
  const expected = golden.runs[run]!.tokenLogprobs;
  assert.equal(prompt.logprobs.length, expected.length);
  for (const [index, one] of prompt.logprobs.entries()) {
    if (expected[index] === null) assert.equal(one, null);
    else assert.ok(Math.abs(one!.logprob - expected[index]!) < 2e-4);
  }
});

test("close ends the loop after the step under way", async () => {
  const started = startLoop({
    onPost: (message) => message.type === "events" && started.loop.receive({ type: "close" }),
  });
  started.loop.receive(submit(goldenRequest(0)));
  await started.loop.idle();
  assert.equal(started.tokens("run-0").length, 1);
  runner.close("run-0");
});

/** One run of each adapter: what two rows of one adapter compute together is the device's business, not tested here. */
const distinctRuns = [0, 1, 2, 3, 6];

test("golden texts and log-probabilities to the last bit, though requests lose their rows again and again", async () => {
  const withLogprobs = (run: number, changes: Partial<GenerationRequest> = {}) =>
    goldenRequest(run, { ...changes, logprobs: 2 });
  const drawn = (started: ReturnType<typeof startLoop>, run: number) =>
    started.events(`run-${run}`).filter(({ type }) => type === "token");
  const alone = new Map<number, unknown>();
  for (const run of distinctRuns) {
    const started = startLoop();
    started.loop.receive(submit(withLogprobs(run)));
    await finish(started);
    alone.set(run, drawn(started, run));
  }
  // After every second report another request comes, each of a higher class than all before it, and each needs the
  // one adapter slot or one of the two rows that are left.
  let reports = 0;
  const pending = [...distinctRuns];
  const started = startLoop({
    scheduling: { deviceSlots: 1 },
    onPost(message) {
      if (message.type !== "events" || ++reports % 2 === 1) return;
      const run = pending.shift();
      if (run !== undefined) started.loop.receive(submit(withLogprobs(run, { priority: -1 - reports })));
    },
  });
  for (const id of ["low 1", "low 2"])
    started.loop.receive(submit(requestOf({ id, maxTokens: 60, priority: 1 })));
  await finish(started);
  assert.ok(started.loop.stats().preemptions >= 3, `${started.loop.stats().preemptions} preemptions`);
  for (const run of distinctRuns) {
    assert.deepEqual(started.tokens(`run-${run}`), golden.runs[run]!.greedy);
    assert.deepEqual(drawn(started, run), alone.get(run));
  }
});
