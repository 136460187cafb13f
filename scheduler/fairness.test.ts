// What tenants get beside a flood: the loop on a device that costs nothing, service counted in VTC's tokens.

import assert from "node:assert/strict";
import { test } from "node:test";
import { requestOf } from "./generation-request-fixture.ts";
import { HistoryRunner } from "./history-runner-fixture.ts";
import { EngineLoop } from "./loop.ts";
import type { SchedulingPolicyName } from "./policies/index.ts";
import type { FromEngine, GenerationRequest } from "./protocol.ts";
import { defaultScheduling } from "./scheduling-options.ts";
import { tokenPrices } from "./scheduling-policy.ts";

const rows = 4;
const flood = { promptTokens: 20, maxTokens: 30, count: 120 };
const steady = { promptTokens: 6, maxTokens: 9, count: 40 };

/** Service of each tenant up to the step in which the steady one, who comes last, has its last answer. */
async function serviceUntilSteadyIsDone(policy: SchedulingPolicyName, weight: number) {
  const served = { flood: 0, steady: 0 };
  let left = steady.count;
  const post = (message: FromEngine) => {
    if (message.type !== "events" || left === 0) return;
    for (const [id, event] of message.events) {
      const tenant = id.startsWith("flood") ? "flood" : "steady";
      if (event.type === "token") served[tenant] += tokenPrices.output;
      if (event.type !== "finished") continue;
      served[tenant] += tokenPrices.input * { flood, steady }[tenant].promptTokens;
      if (tenant === "steady") left--;
    }
  };
  const runner = new HistoryRunner({ maxRows: rows, maxContext: 64, kvTokens: 10_000 });
  const { vocabSize } = runner;
  const scheduling = { ...defaultScheduling, policy };
  const options = {
    runner,
    scheduling,
    chunkTokens: 8,
    promptTokensPerStep: 16,
    eosTokenIds: [],
    vocabSize,
    post,
  };
  const loop = new EngineLoop(options);
  const submit = (id: string, kind: typeof flood, tenant: GenerationRequest["tenant"]) =>
    loop.receive({
      type: "submit",
      request: requestOf({
        id,
        tenant,
        promptTokenIds: Array<number>(kind.promptTokens).fill(7),
        maxTokens: kind.maxTokens,
      }),
    });
  for (let index = 0; index < flood.count; index++) {
    submit(`flood-${index}`, flood, { id: "flood", weight: 1, rowsAtOnce: null });
  }
  for (let index = 0; index < steady.count; index++) {
    submit(`steady-${index}`, steady, { id: "steady", weight, rowsAtOnce: null });
  }
  await loop.idle();
  assert.equal(left, 0);
  return served;
}

/** What a tenant can be ahead by at most (VTC, theorem 4.4): every row's whole request. */
const boundTokens = rows * (flood.promptTokens * tokenPrices.input + flood.maxTokens * tokenPrices.output);

test("fair-share: a tenant that comes behind a flood is served as much as the flood meanwhile", async () => {
  const served = await serviceUntilSteadyIsDone("fair-share", 1);
  assert.ok(Math.abs(served.flood - served.steady) <= boundTokens, JSON.stringify(served));
});

test("fair-share: with three times the weight, three times as much", async () => {
  const served = await serviceUntilSteadyIsDone("fair-share", 3);
  assert.ok(Math.abs(served.flood - served.steady / 3) <= boundTokens, JSON.stringify(served));
});

test("first-come serves the flood first, which shows that the measure can tell", async () => {
  const served = await serviceUntilSteadyIsDone("first-come", 1);
  assert.ok(served.flood > 5 * served.steady, JSON.stringify(served));
});

test("a tenant's own limit of rows leaves the others their rows", async () => {
  const runner = new HistoryRunner({ maxRows: rows, maxContext: 64, kvTokens: 10_000 });
  const { vocabSize } = runner;
  const options = {
    runner,
    scheduling: defaultScheduling,
    chunkTokens: 8,
    promptTokensPerStep: 16,
    vocabSize,
  };
  const loop = new EngineLoop({ ...options, eosTokenIds: [], post: () => {} });
  for (let index = 0; index < 12; index++) {
    const tenant =
      index < 8 ? { id: "limited", weight: 1, rowsAtOnce: 1 } : { id: "free", weight: 1, rowsAtOnce: null };
    loop.receive({ type: "submit", request: requestOf({ id: `${tenant.id}-${index}`, tenant }) });
  }
  await loop.idle();
  const most = (tenant: string) =>
    Math.max(...runner.runs.map(({ sequences }) => sequences.filter((id) => id.startsWith(tenant)).length));
  assert.deepEqual([most("limited"), most("free")], [1, rows - 1]);
});
