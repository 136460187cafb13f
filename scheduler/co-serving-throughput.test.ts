// What finetuning and serving get beside each other, of what each gets alone: the loop on a clock that goes on by what
// runs were measured to take, so that the policy is judged and not the machine (which `npm run co-serving` measures).

import assert from "node:assert/strict";
import { test } from "node:test";
import { Random } from "../load-tests/load/random.ts";
import { startScene } from "./co-serving-fixture.ts";
import { requestOf } from "./generation-request-fixture.ts";

/** Milliseconds, of a SmolLM2-135M shape in int4 on two cores. */
const runs = {
  decode: (rows: number) => 11 + 2.8 * rows,
  prefill: (tokens: number) => 1.7 * tokens,
  unit: 16,
};
const request = { promptTokens: 96, outputTokens: 48 };
const targets = { ttftMs: 2000, tpotMs: 200 };
const window = { fromMs: 12_000, toMs: 72_000 }; // opens when answers end as fast as they begin

/** What a run takes on a machine, of what it takes on an even one. */
type Machine = (seed: number) => (ms: number, nowMs: number) => number;

const even: Machine = () => (ms) => ms;

/** One run of ten takes longer, 4 times as long on average. */
const holdingUp: Machine = (seed) => {
  const random = new Random(seed + 100);
  return (ms) => ms * (random.uniform() < 0.1 ? 1 + 3 * random.exponential() : 1);
};

/** Up to 2.2 times as slow for seconds, and short hold-ups. */
const changing: Machine = (seed) => {
  const [speeds, holdUps] = [new Random(seed + 100), new Random(seed + 200)];
  let slowness = 1;
  let untilMs = 0;
  return (ms, nowMs) => {
    for (; untilMs <= nowMs; untilMs += 4000 * speeds.exponential()) slowness = 1 + 1.2 * speeds.uniform();
    let heldUpMs = 0;
    for (let at = 50 * holdUps.exponential(); at < ms; at += 50 * holdUps.exponential()) {
      heldUpMs += 15 * holdUps.exponential();
    }
    return slowness * ms + heldUpMs;
  };
};

type Scene = {
  readonly requests: { readonly clients: number } | { readonly perSecond: number } | null;
  readonly trains: boolean;
  readonly machine: Machine;
  readonly seed?: number;
};

type Outcome = {
  readonly tokensPerSecond: number;
  readonly unitsPerSecond: number;
  readonly ended: number; // answers
  readonly late: number; // of these
};

async function serve(t: { mock: typeof test.mock }, scene: Scene): Promise<Outcome> {
  const { requests, trains, machine, seed = 1 } = scene;
  const arrivals = new Random(seed);
  const slowed = machine(seed);
  const taking = (ms: number) => slowed(ms, nowMs);
  const perSecond = requests !== null && "perSecond" in requests ? requests.perSecond : 0;
  const gapMs = () => (1000 / perSecond) * arrivals.exponential(); // Infinity without any
  const answers = new Map<string, { readonly arrivedMs: number; readonly tokensMs: number[] }>();
  let nextMs = gapMs();
  let units = 0;
  let nowMs = 0;
  let isOver = false;
  const arrive = (arrivedMs: number) => {
    const id = `${answers.size}`;
    answers.set(id, { arrivedMs, tokensMs: [] });
    const promptTokenIds = Array.from({ length: request.promptTokens }, () => arrivals.below(64));
    submit(requestOf({ id, promptTokenIds, maxTokens: request.outputTokens }));
  };
  const { loop, submit, train, hooks } = startScene(t, {
    units: Number.POSITIVE_INFINITY,
    maxRows: 16,
    chunkTokens: 128,
    decodeMs: (rows) => taking(runs.decode(rows)),
    prefillMs: (tokens) => taking(runs.prefill(tokens)),
    unitMs() {
      if (nowMs >= window.fromMs && !isOver) units++;
      return taking(runs.unit);
    },
    onTime(ms) {
      nowMs = ms;
      for (; nextMs <= nowMs; nextMs += gapMs()) arrive(nextMs);
      if (nowMs < window.toMs || isOver) return;
      isOver = true;
      loop.receive({ type: "close" });
    },
  });
  hooks.push((message) => {
    if (message.type !== "events") return;
    for (const [id, { type }] of message.events) {
      if (type === "token") answers.get(id)!.tokensMs.push(nowMs);
      if (type === "finished" && perSecond === 0) arrive(nowMs);
    }
  });
  if (trains) train("job");
  if (requests !== null && "clients" in requests) {
    for (let client = 0; client < requests.clients; client++) arrive(0);
  }
  await loop.idle();
  t.mock.restoreAll();
  const tokens = [...answers.values()].flatMap(({ tokensMs }) => tokensMs);
  const ended = [...answers.values()].filter(({ tokensMs }) => tokensMs.length === request.outputTokens);
  const late = ended.filter(({ arrivedMs, tokensMs }) => {
    const [firstMs, lastMs] = [tokensMs[0]!, tokensMs.at(-1)!];
    const tpotMs = (lastMs - firstMs) / (tokensMs.length - 1);
    return firstMs - arrivedMs > targets.ttftMs || tpotMs > targets.tpotMs;
  });
  const seconds = (window.toMs - window.fromMs) / 1000;
  return {
    tokensPerSecond: tokens.filter((ms) => ms >= window.fromMs).length / seconds,
    unitsPerSecond: units / seconds,
    ended: ended.length,
    late: late.length,
  };
}

const perSecond = (load: number, full: Outcome) => (load * full.tokensPerSecond) / request.outputTokens;

for (const { machine, leastSum, mostLate } of [
  { machine: even, leastSum: 0.95, mostLate: 0 },
  { machine: holdingUp, leastSum: 0.9, mostLate: 0.05 },
]) {
  test(`finetuning beside serving costs little on a machine that is ${machine.name}`, async (t) => {
    const solo = await serve(t, { requests: null, trains: true, machine });
    const full = await serve(t, { requests: { clients: 16 }, trains: false, machine });
    for (const load of [0.1, 0.25, 0.5, 1]) {
      const requests = { perSecond: perSecond(load, full) };
      const both = await serve(t, { requests, trains: true, machine });
      const serving = both.tokensPerSecond / full.tokensPerSecond;
      const training = both.unitsPerSecond / solo.unitsPerSecond;
      const said = `load ${load}: serving ${serving}, training ${training}, ${both.late} of ${both.ended} late`;
      assert.ok(serving + training >= leastSum, said);
      if (load <= 0.5) assert.ok(both.late <= mostLate * both.ended, said);
    }
  });
}

test("at half of the capacity nobody is late for training, also while the machine's speed changes", async (t) => {
  const machine = changing;
  const full = await serve(t, { requests: { clients: 16 }, trains: false, machine });
  const requests = { perSecond: perSecond(0.5, full) };
  let [ended, late] = [0, 0];
  for (let seed = 1; seed <= 20; seed++) {
    const both = await serve(t, { requests, trains: true, machine, seed });
    ended += both.ended;
    late += both.late;
  }
  assert.ok(late <= 0.01 * ended, `${late} of ${ended} late`);
});
