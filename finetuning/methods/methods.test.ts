// What holds of a method's trained values: what is served is what was trained, an adapter is continued from where it
// was, and a layer selection moves the layers that it chose and no others.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import type { DecodedAdapter } from "../../kernels/adapter.ts";
import { randomAdapter } from "../../kernels/random-adapter.ts";
import { referenceTokenLogprobs } from "../../kernels/reference/token-logprobs.ts";
import { openReference } from "../../tests/golden/reference-model.ts";
import {
  eventsOf,
  openSmallKernel,
  randomExamples,
  runJob,
  smallBaseDirectory,
  smallStart,
} from "../../tests/training-job-fixture.ts";
import type { JobStart, TrainingExamples, TrainingSpec } from "../job.ts";
import { type Settings, SettingsError } from "../settings.ts";
import { type MethodName, methods } from "./index.ts";

let on: Awaited<ReturnType<typeof openSmallKernel>>;
before(async () => {
  on = await openSmallKernel();
});
after(() => on.kernel.close());

const methodNames = Object.keys(methods) as MethodName[];
const run = (spec: Partial<TrainingSpec>, rest: Partial<JobStart> = {}) => runJob(smallStart(spec, rest), on);
const lastAdapter = async (...job: Parameters<typeof run>) =>
  eventsOf(await run(...job), "checkpoint").at(-1)!.adapter;

/** The cross-entropy of examples by the slow forward pass. */
function referenceLoss({ tokenIds, weights, ends }: TrainingExamples, adapter: DecodedAdapter): number {
  using model = openReference(smallBaseDirectory);
  let loss = 0;
  let weight = 0;
  for (const [index, end] of ends.entries()) {
    const from = index === 0 ? 0 : ends[index - 1]!;
    const logprobs = referenceTokenLogprobs(model, [...tokenIds.subarray(from, end)], adapter);
    for (const [at, own] of weights.subarray(from + 1, end).entries()) {
      loss -= own * logprobs[at]!;
      weight += own;
    }
  }
  return loss / weight;
}

for (const name of methodNames) {
  test(`${name}: what is served is what was trained, and goes on from there`, async () => {
    const validation = randomExamples(2, 77);
    const spec = { method: { name, settings: {} }, learningRate: 0.05 };
    const events = await run(spec, { validation });
    const trained = eventsOf(events, "checkpoint").at(-1)!.adapter;
    const { loss } = eventsOf(events, "validation").at(-1)!;
    const served = referenceLoss(validation, trained);
    const untrained = referenceLoss(validation, { modules: [] });
    assert.ok(Math.abs(loss - served) < 1e-4, `${loss} ${served}`);
    assert.ok(Math.abs(served - untrained) > 1e-3, "training has changed nothing");
    const first = smallStart(
      { ...spec, batchSize: 2, epochs: 1, learningRate: 1e-9 },
      { training: validation },
    );
    const continued = eventsOf(await runJob({ ...first, from: trained, validation }, on), "validation");
    assert.ok(Math.abs(continued[0]!.loss - served) < 1e-3, `${continued[0]!.loss} ${served}`);
  });
}

test("an adapter of another kind is refused, and so is what the base has not", async () => {
  const lowRank = randomAdapter(on.targets, 2, 5);
  const channels = await lastAdapter({ method: { name: "s2ft", settings: { channels: 2 } } });
  const refused = (
    name: MethodName,
    settings: Record<string, number | string>,
    from: DecodedAdapter | null,
  ) => assert.rejects(run({ method: { name, settings } }, { from }), SettingsError);
  await refused("s2ft", {}, lowRank);
  await refused("lora", {}, channels);
  await refused("s2ft", { channels: 97 }, null);
  await refused("lora", { layers: "lisa", layers_per_step: 2 }, null);
  await refused("lora", { rnak: 3 }, null);
});

test("continuing, an adapter keeps its own ranks", async () => {
  const { modules } = randomAdapter(on.targets, 3, 5);
  const from = { modules: modules.slice(1, 4) };
  const { modules: trained } = await lastAdapter({ learningRate: 1e-9 }, { from });
  for (const [index, module] of from.modules.entries()) {
    const after = trained[index]!;
    assert.ok(module.kind === "low-rank" && after.kind === "low-rank");
    assert.deepEqual([after.layer, after.projection, after.rank], [module.layer, module.projection, 3]);
    assert.ok(module.b.every((value, i) => Math.abs(value - after.b[i]!) < 1e-6));
  }
});

test("continuing an adapter of few layers, a step moves those that there are", async () => {
  const { modules } = randomAdapter(on.targets, 2, 5);
  const from = { modules: modules.filter((module) => "layer" in module && module.layer === 1) };
  for (const layers of ["ist", "lisa"]) {
    const settings = { layers, layers_per_step: 1, layers_period: 1 };
    const events = await run({ method: { name: "lora", settings } }, { from });
    assert.ok(events.at(-1)!.type === "finished");
    assert.notDeepEqual(eventsOf(events, "checkpoint").at(-1)!.adapter, from);
  }
});

test("an adapter to continue from keeps what it has, and says what that is where something else was asked for", async () => {
  const { targets } = on;
  const lowRank = randomAdapter(targets, 3, 5);
  const [first, ...others] = lowRank.modules;
  const { modules: narrow } = randomAdapter(targets, 1, 5);
  const mixed = { modules: [narrow[0]!, ...others] };
  const keptBy = (name: MethodName, settings: Settings, from: DecodedAdapter) =>
    methods[name].kept(settings, { targets, from });
  for (const name of ["lora", "mezo", "sparse-mezo"] as const) {
    assert.equal(keptBy(name, { rank: 3 }, lowRank).rank, null);
    assert.equal(keptBy(name, { rank: 4 }, lowRank).rank, "3");
    assert.equal(keptBy(name, { rank: 3 }, mixed).rank, "1 to 3");
    assert.equal(keptBy(name, { rank_pattern: { q_proj: 3 } }, lowRank).rank_pattern, null);
    assert.equal(keptBy(name, { rank: 9, rank_pattern: { q_proj: 2 } }, lowRank).rank_pattern, "3");
    assert.equal(keptBy(name, { target_modules: ["q_proj"] }, { modules: [first!] }).target_modules, null);
    assert.equal(
      keptBy(name, { target_modules: ["k_proj"] }, { modules: [first!] }).target_modules,
      "q_proj",
    );
  }
  for (const [name, settings, other] of [
    ["s2ft", { channels: 2 }, { channels: 3 }],
    ["sparse", { density: 0.03 }, { density: 0.04 }],
  ] as const) {
    const from = await lastAdapter({ method: { name, settings } });
    assert.deepEqual(Object.values(keptBy(name, settings, from)), [null, null]);
    const [[setting] = ["none"]] = Object.entries(settings);
    assert.match(keptBy(name, other, from)[setting]!, name === "s2ft" ? /^2$/ : /^about 0\.0(29|3)/);
    const target_modules = ["v_proj"];
    assert.match(keptBy(name, { ...settings, target_modules }, from).target_modules!, /o_proj.*down_proj/);
  }
});

test("continuing, adalora narrows the adapter's own ranks", async () => {
  const from = randomAdapter(on.targets, 20, 5);
  const settings = { rank_allocation: "adalora", adalora_target_rank: 17 }; // more than the rank of a new adapter
  const { modules } = await lastAdapter({ method: { name: "lora", settings } }, { from });
  const ranks = modules.map((module) => (module.kind === "low-rank" ? module.rank : 0));
  assert.equal(
    ranks.reduce((sum, rank) => sum + rank, 0),
    17 * from.modules.length,
  );
});

test("lora: ranks by pattern", async () => {
  const settings = { rank: 2, target_modules: ["q_proj", "down_proj"], rank_pattern: { q_proj: 3 } };
  const start = smallStart({ method: { name: "lora", settings } });
  const events = await runJob(start, on, () => true);
  const { adapter } = eventsOf(events, "checkpoint")[0]!;
  const shapes = adapter.modules.map(
    (module) => module.kind === "low-rank" && [module.projection, module.rank],
  );
  assert.deepEqual(shapes.slice(0, 2), [
    ["q", 3],
    ["down", 2],
  ]);
});

for (const layers of ["lisa", "ist"]) {
  test(`${layers}: a step moves the chosen layers only, and goes back no further`, async () => {
    const settings = { rank: 2, layers, layers_per_step: 1, layers_period: 2 };
    const start = smallStart({
      method: { name: "lora", settings },
      checkpointSteps: 1,
      epochs: 4,
      warmupSteps: 0,
      schedule: "constant",
      passTokens: 1000,
      windowTokens: 1000, // so that a layer is one unit
    });
    const backward: number[] = []; // units of each step
    const events = await runJob(start, on, (all, { kind }) => {
      const step = eventsOf(all, "step").length;
      if (kind === "backward") backward[step] = (backward[step] ?? 0) + 1;
      return false;
    });
    const adapters = eventsOf(events, "checkpoint").map(({ adapter }) => adapter);
    const moved = adapters.slice(1).map((adapter, index) => {
      const before = adapters[index]!;
      const changed = adapter.modules.filter(
        (module, place) => !isDeepStrictEqual(module, before.modules[place]),
      );
      return new Set(changed.map((module) => "layer" in module && module.layer));
    });
    assert.ok(moved.every((chosen) => chosen.size === 1));
    assert.equal(new Set(moved.flatMap((chosen) => [...chosen])).size, 2, "both layers get their turn");
    for (const [index, chosen] of moved.entries()) {
      assert.equal(backward[index + 1], chosen.has(0) ? 4 : 2); // halves of layers
    }
    if (layers === "lisa") {
      for (let step = 2; step < adapters.length - 1; step += 2) {
        assert.deepEqual(moved[step], moved[step - 1], "a period has one choice");
      }
    }
  });
}
