// Sparse jobs on a small base: the budget holds, entries come and go as SpIEL and LT-SFT say, and a job that was
// stopped anywhere ends in the same bits.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { modulesOf, type SparseModule } from "../../../kernels/adapter.ts";
import { eventsOf, openSmallKernel, runJob, smallStart } from "../../../tests/training-job-fixture.ts";
import type { CheckpointArray, JobEvent, TrainingSpec } from "../../job.ts";
import { optimizers } from "../../optimizers/index.ts";
import { SettingsError } from "../../settings.ts";
import { methods } from "../index.ts";
import { changedMost, exchange } from "./exchange.ts";
import { SparseTrainable } from "./sparse-trainable.ts";

let on: Awaited<ReturnType<typeof openSmallKernel>>;
before(async () => {
  on = await openSmallKernel();
});
after(() => on.kernel.close());

const exchanging = { density: 0.02, regrow_steps: 2, growth_steps: 2, drop_rate: 0.5 };
const rewinding = { ...exchanging, rewind: true, rewind_at: 0.5, rewind_budget: 3 };

function specOf(settings: TrainingSpec["method"]["settings"], rest: Partial<TrainingSpec> = {}) {
  return {
    method: { name: "sparse", settings },
    checkpointSteps: 1,
    ...rest,
  } satisfies Partial<TrainingSpec>;
}

const adaptersOf = (events: readonly JobEvent[]) =>
  eventsOf(events, "checkpoint").map(({ adapter }) => modulesOf(adapter, "sparse"));

function budgetsOf(density: number): number[] {
  return Array.from({ length: on.targets.layers }, () =>
    Object.values(on.targets.shapes).map((shape) => Math.max(1, Math.round(density * shape.in * shape.out))),
  ).flat();
}

test("the budget holds while entries are exchanged, and the loss falls", async () => {
  const events = await runJob(smallStart(specOf(exchanging, { epochs: 8, learningRate: 3e-3 })), on);
  const budgets = budgetsOf(exchanging.density);
  const adapters = adaptersOf(events);
  for (const modules of adapters) {
    assert.deepEqual(
      modules.map(({ indices }) => indices.length),
      budgets,
    );
    for (const { indices, projection } of modules) {
      assert.ok(indices.every((index, at) => at === 0 || index > indices[at - 1]!));
      assert.ok(indices.at(-1)! < on.targets.shapes[projection].in * on.targets.shapes[projection].out);
    }
  }
  const changes = adapters.slice(1).map((modules, index) => exchangedBetween(adapters[index]!, modules));
  const isExchange = (step: number) => step % 2 === 1 && step < changes.length; // the last exchange has none left
  for (const [index, count] of changes.entries()) {
    assert.equal(count > 0, isExchange(index + 1), `${count} entries after step ${index + 2}`);
  }
  assert.ok(changes[0]! > changes.at(-3)!, "fewer and fewer");
  const losses = eventsOf(events, "step").map(({ loss }) => loss);
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  assert.ok(mean(losses.slice(-3)) < mean(losses.slice(0, 3)) - 0.2, losses.join());
});

test("what grows has the largest gradient of all that was not trained", async () => {
  const settings = { density: 0.02, regrow_steps: 1, growth_steps: 1, drop_rate: 0.5 };
  const start = smallStart(specOf(settings, { batchSize: 100, passTokens: 1000, learningRate: 1e-9 }));
  const [after0, after1] = adaptersOf(await runJob(start, on));
  const events = await runJob(
    smallStart({ ...start.spec, method: { name: "sparse", settings: { density: 0.02, regrow_steps: 0 } } }),
    on,
  );
  const first = adaptersOf(events)[0]!;
  const gradients = await baseGradients(start, first);
  for (const [index, { indices }] of after0!.entries()) {
    const initial = new Set(first[index]!.indices);
    const grown = [...indices].filter((at) => !initial.has(at));
    const gradient = gradients[index]!;
    const free = [...gradient.keys()].filter((at) => !initial.has(at));
    const best = free.sort((one, other) => Math.abs(gradient[other]!) - Math.abs(gradient[one]!));
    assert.equal(grown.length, Math.floor(first[index]!.indices.length * 0.5 * (1 - 1 / 2)));
    assert.deepEqual(new Set(grown), new Set(best.slice(0, grown.length)));
  }
  assert.deepEqual(
    after1!.map(({ indices }) => indices),
    after0!.map(({ indices }) => indices),
    "the last exchange has none left",
  );
});

test("the entries that moved least go, and the others keep place and value", () => {
  const trainable = new SparseTrainable([
    { layer: 0, projection: "q", indices: Uint32Array.of(1, 5, 9, 12) },
  ]);
  trainable.flat.set([1, -3, 2, 0.5]);
  const changed = exchange(trainable, 0, {
    candidate: {
      layer: 0,
      projection: "q",
      indices: Uint32Array.of(0, 7, 8),
      gradient: Float32Array.of(1, -5, 2),
    },
    before: Float32Array.of(0.9, 0, 0, 0.5), // moved by 0.1, 3, 2 and 0
    share: 0.5,
  });
  assert.deepEqual([...changed], [0, 3]);
  assert.deepEqual([...trainable.flat], [0, -3, 2, 0]);
  const [module] = trainable.served();
  assert.deepEqual([...module!.indices], [5, 7, 8, 9]);
  assert.deepEqual([...module!.values], [-3, 0, 0, 2]);
});

test("the rewind keeps what has changed most, and takes the change back", async () => {
  const trainable = new SparseTrainable([{ layer: 1, projection: "o", indices: Uint32Array.of(9, 2, 4, 7) }]);
  trainable.flat.set([0.1, -4, 0.2, 3]);
  trainable.replace([changedMost(trainable, 0, 2)]);
  assert.deepEqual(
    [...trainable.served()],
    [
      {
        kind: "sparse",
        layer: 1,
        projection: "o",
        indices: Uint32Array.of(2, 7),
        values: new Float32Array(2),
      },
    ],
  );

  const adapters = adaptersOf(await runJob(smallStart(specOf(rewinding)), on));
  const sizes = adapters.map((modules) => modules.map(({ indices }) => indices.length));
  const budgets = budgetsOf(rewinding.density);
  assert.deepEqual(
    sizes.slice(0, 2),
    [1, 2].map(() => budgets.map((budget) => 3 * budget)),
  );
  assert.deepEqual(
    sizes.slice(2),
    [3, 4, 5, 6].map(() => budgets),
  );
  assert.ok(adapters[2]!.every(({ values }) => values.every((value) => value === 0)));
  assert.ok(adapters[5]!.every(({ values }) => values.some((value) => value !== 0)));
  assert.equal(exchangedBetween(adapters[2]!, adapters[5]!), 0);
});

test("a rewind leaves steps to train what it has kept; a job of one step has none", async () => {
  const late = specOf({ ...rewinding, rewind_at: 0.99 });
  const [result] = adaptersOf(await runJob(smallStart(late), on)).slice(-1);
  assert.ok(result!.some(({ values }) => values.some((value) => value !== 0)));
  const short = smallStart({ ...late, epochs: 1, batchSize: 7 });
  await assert.rejects(runJob(short, on), { param: "method.adapter.rewind", message: /two steps/ });
});

for (const [name, settings] of Object.entries({ exchanging, rewinding })) {
  for (const optimizer of ["adamw", "adamw-8bit"] as const) {
    test(`${name} by ${optimizer}: resumed equals uninterrupted, bit for bit`, async () => {
      const spec = specOf(settings, {
        optimizer: { name: optimizer, settings: optimizers[optimizer].defaults },
        checkpointSteps: 1000,
        epochs: 3,
      });
      const last = eventsOf(await runJob(smallStart(spec), on), "checkpoint").at(-1)!;
      await fc.assert(
        fc.asyncProperty(fc.array(fc.nat(60), { maxLength: 4 }), async (cuts) => {
          let checkpoint = null;
          for (const cut of [...cuts, Number.POSITIVE_INFINITY]) {
            let units = 0;
            const part = await runJob(smallStart(spec, { checkpoint }), on, () => units++ >= cut);
            const end = eventsOf(part, "checkpoint").at(-1)!;
            if (part.at(-1)!.type === "finished") {
              assert.deepEqual(end, last);
              return;
            }
            checkpoint = structuredClone(end.checkpoint);
          }
        }),
        { numRuns: 3 },
      );
    });
  }
}

test("a step whose loss is not finite changes no entry", async () => {
  const spec = specOf(
    { ...exchanging, regrow_steps: 1, growth_steps: 1 },
    { learningRate: 1e30, maxSkippedSteps: 2 },
  );
  const events = await runJob(smallStart(spec), on);
  const steps = eventsOf(events, "step");
  const skippedAt = steps.findIndex(({ skipped }) => skipped);
  assert.ok(skippedAt > 0);
  const arraysAt = (index: number): Readonly<Record<string, CheckpointArray>> =>
    eventsOf(events, "checkpoint")[index]!.checkpoint.arrays;
  assert.deepEqual(arraysAt(skippedAt), arraysAt(skippedAt - 1));
});

test("a job goes on from a sparse adapter, with its entries", async () => {
  const adapter = eventsOf(await runJob(smallStart(specOf(exchanging)), on), "checkpoint").at(-1)!.adapter;
  const settings = { regrow_steps: 0 };
  const more = await runJob(smallStart(specOf(settings, { learningRate: 1e-6 }), { from: adapter }), on);
  const [first] = adaptersOf(more);
  const own = modulesOf(adapter, "sparse");
  assert.equal(exchangedBetween(own, first!), 0);
  for (const [index, { values }] of first!.entries()) {
    assert.ok(values.every((value, at) => Math.abs(value - own[index]!.values[at]!) < 1e-5));
  }
  const start = smallStart(specOf(rewinding), { from: adapter });
  await assert.rejects(runJob(start, on), SettingsError);
});

test("entries that changed hands are in order again before anybody asks for an adapter", async () => {
  const unordered: (readonly number[])[] = [];
  const served = SparseTrainable.prototype.served;
  const { mock } = test;
  mock.method(SparseTrainable.prototype, "served", function (this: SparseTrainable) {
    unordered.push(this.unordered);
    return served.call(this);
  });
  await runJob(smallStart(specOf(exchanging)), on);
  mock.reset();
  assert.ok(unordered.length > 3 && unordered.every(({ length }) => length === 0));
});

test("each matrix is put in order in a unit of its own", async () => {
  const calls: string[] = [];
  let unit = 0;
  const spec = specOf({ ...exchanging, regrow_steps: 1, growth_steps: 1 });
  const { mock } = test;
  const order = SparseTrainable.prototype.order;
  mock.method(SparseTrainable.prototype, "order", function (this: SparseTrainable, matrix: number) {
    if (!this.unordered.includes(matrix)) return order.call(this, matrix);
    calls.push(`${unit}`);
    return order.call(this, matrix);
  });
  await runJob(smallStart(spec), on, () => unit++ < 0);
  mock.reset();
  assert.ok(calls.length > 0);
  assert.equal(new Set(calls).size, calls.length);
});

test("settings that do not go together are refused, and memory counts all entries", () => {
  const of = { targets: on.targets, from: null };
  assert.throws(() => methods.sparse.size({ regrow_steps: 3, growth_steps: 4 }, of), SettingsError);
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
  assert.equal(methods.sparse.size(exchanging, of).trained, sum(budgetsOf(0.02)));
  assert.equal(methods.sparse.size(rewinding, of).trained, 3 * sum(budgetsOf(0.02)));
});

/** The whole gradients of the mean loss at the base, by the same matrices. */
async function baseGradients(start: ReturnType<typeof smallStart>, of: readonly SparseModule[]) {
  const { tokenIds, weights, ends } = start.training;
  const sequences = [...ends].map((end, index) => {
    const from = index === 0 ? 0 : ends[index - 1]!;
    const own = weights.subarray(from, end);
    return {
      tokenIds: [...tokenIds.subarray(from, end)],
      scored: [...own.keys()].filter((at) => own[at] !== 0),
    };
  });
  const pass = on.kernel.pass(sequences, { modules: [], train: true, firstTrainedLayer: 0 });
  for (const unit of pass.forward()) await unit.run();
  const found = new Map<string, Float32Array>();
  const slopes = [...weights].filter((weight) => weight !== 0).map((weight) => -weight);
  const whole = {
    places: of,
    receive: (place: { layer: number; projection: string }, gradient: Float32Array) => {
      found.set(`${place.layer} ${place.projection}`, gradient.slice());
    },
  };
  for (const unit of pass.backward(slopes, { modules: [], whole })) await unit.run();
  return of.map(({ layer, projection }) => found.get(`${layer} ${projection}`)!);
}

function exchangedBetween(one: readonly SparseModule[], other: readonly SparseModule[]): number {
  return one.reduce((sum, { indices }, index) => {
    const own = new Set(indices);
    return sum + other[index]!.indices.filter((at) => !own.has(at)).length;
  }, 0);
}
