import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type TestContext, test } from "node:test";
import fc from "fast-check";
import { until } from "../../tests/until.ts";
import { createLogger } from "../logger.ts";
import { defaultTenant } from "../tenancy/tenant.ts";
import { fixtureJob, fixturePlan } from "./job-fixture.ts";
import { JobStateError, type JobStep, jobStatuses, transition } from "./job-record.ts";
import { type JobStore, openJobStore, tagsOf } from "./job-store.ts";

function opener(context: TestContext): (base?: string) => JobStore {
  const directory = mkdtempSync(join(tmpdir(), "cotenant-jobs-"));
  context.after(() => rmSync(directory, { recursive: true }));
  return (baseFingerprint = "base") => {
    const logger = createLogger("silent");
    const store = openJobStore({ path: join(directory, "jobs.sqlite"), baseFingerprint, logger });
    context.after(() => store.close());
    return store;
  };
}

const news = (message: string) => ({ level: "info", type: "message", message, data: { n: 1 } }) as const;
const step = (number: number, changes: Partial<JobStep> = {}): JobStep => ({
  step: number,
  trainLoss: 1 / number,
  tokens: 5,
  learningRate: 0.1,
  gradientNorm: null,
  skipped: false,
  trainMetrics: {},
  ...changes,
});

test("what was saved is there for another handle at once, and steps once they are flushed", (context) => {
  const open = opener(context);
  const store = open();
  const job = fixtureJob();
  store.save(job, { news: [news("created")] });
  store.history.addStep(job.id, step(1));
  const other = open();
  assert.deepEqual(other.get(job.id), job);
  assert.deepEqual(
    other.newsSince(job.id, 0, 10).map(({ index, message }) => [index, message]),
    [[1, "created"]],
  );
  assert.equal(other.history.lastStep(job.id), 0);
  store.addNews(job.id, news("second"));
  store.flush();
  assert.equal(other.history.lastStep(job.id), 1);
  assert.deepEqual(
    open()
      .newsSince(job.id, 1, 10)
      .map(({ index }) => index),
    [2],
  );
  const checkpoint = { step: 2, createdAtMs: 1, adapterId: "a", version: "v", metrics: { step: 2 } };
  store.save({ ...job, steps: 4 }, { checkpoint });
  store.save({ ...job, steps: 4 }, { checkpoint });
  assert.deepEqual(other.checkpoints(job.id, { after: null, limit: 5 }), {
    items: [checkpoint],
    hasMore: false,
  });
});

test("lists are pages, newest first, of one tenant and one base", (context) => {
  const open = opener(context);
  const store = open();
  for (let n = 0; n < 5; n++) store.save(fixtureJob({ id: `ftjob-${n}` }));
  store.save(fixtureJob({ id: "ftjob-other", tenant: { ...defaultTenant, id: "other" } }));
  store.save(fixtureJob({ id: "ftjob-base", baseFingerprint: "another" }));
  const page = (after: string | null) => {
    const { items, hasMore } = store.list("default", { after, limit: 2 });
    return [...items.map(({ id }) => id), hasMore];
  };
  assert.deepEqual(page(null), ["ftjob-4", "ftjob-3", true]);
  assert.deepEqual(page("ftjob-3"), ["ftjob-2", "ftjob-1", true]);
  assert.deepEqual(page("ftjob-1"), ["ftjob-0", false]);
  assert.equal(store.get("ftjob-base"), undefined);
  assert.equal(store.claims.jobUsing("file-1"), "ftjob-0");
  assert.equal(store.claims.unfinishedCount("default"), 6); // the other base's takes room too
  assert.deepEqual(
    open("another")
      .unfinished()
      .map(({ id }) => id),
    ["ftjob-base"],
  );
  assert.deepEqual([...store.counts()], [["queued", 6]]);
  store.save(fixtureJob({ id: "ftjob-6", resultBytes: 5, plan: { ...fixturePlan, keptBytes: 100 } }));
  store.save(fixtureJob({ id: "ftjob-7", resultBytes: 5, plan: null, status: "validating_files" }));
  store.save(fixtureJob({ id: "ftjob-8", status: "cancelled" }));
  assert.deepEqual(store.claims.reserved("default"), { adapters: 8, sizeBytes: 6 * 4 + 105 + 5 });
});

test("jobs are found by any of their metadata, in pages, without reading the others", (context) => {
  const store = opener(context)();
  const pairs = fc.dictionary(fc.constantFrom("a", "b", "c", "x]["), fc.constantFrom("1", "2", '"'), {
    maxKeys: 3,
  });
  const metadata = fc.option(pairs, { nil: null });
  const given = fc.sample(metadata, 60);
  for (const [n, each] of given.entries())
    store.save(fixtureJob({ id: `ftjob-${n}`, metadata: each && { ...each } }));
  store.save(fixtureJob({ id: "ftjob-0", status: "cancelled", metadata: given[0]! })); // written again
  store.save(fixtureJob({ id: "foreign", tenant: { ...defaultTenant, id: "other" }, metadata: { a: "1" } }));
  for (const wanted of [null, ...fc.sample(pairs, 40)]) {
    const expected = given
      .map((each, n) => ({ each, id: `ftjob-${n}` }))
      .filter(({ each }) =>
        wanted === null
          ? each === null
          : Object.entries(wanted).every(([key, value]) => each?.[key] === value),
      )
      .map(({ id }) => id)
      .reverse();
    const found: string[] = [];
    for (let after: string | null = null, hasMore = true; hasMore; after = found.at(-1) ?? null) {
      const page = store.list("default", { after, limit: 3 }, tagsOf(wanted));
      found.push(...page.items.map(({ id }) => id));
      hasMore = page.hasMore;
    }
    assert.deepEqual(found, expected);
  }
});

test("the history joins steps and validations; a step that comes again replaces itself", (context) => {
  const store = opener(context)();
  store.save(fixtureJob());
  store.history.addStep("ftjob-1", step(1, { trainLoss: Number.NaN, skipped: true, gradientNorm: Infinity }));
  store.history.addStep("ftjob-1", step(2, { trainMetrics: { rewardMargin: 0.5 } }));
  store.history.addStep("ftjob-1", step(2, { trainMetrics: { rewardMargin: 0.5 } }));
  assert.equal(store.history.addValidation("ftjob-1", { step: 2, loss: 3, metrics: {} }), true);
  assert.equal(store.history.addValidation("ftjob-1", { step: 2, loss: 3, metrics: {} }), false);
  store.flush();
  const history = store.history.page("ftjob-1", { after: 0, limit: 10 });
  assert.deepEqual(history, [
    { ...step(1, { trainLoss: Number.NaN, skipped: true }), validation: null },
    { ...step(2, { trainMetrics: { rewardMargin: 0.5 } }), validation: { loss: 3, metrics: {} } },
  ]);
  assert.equal(store.history.trainedTokens("ftjob-1"), 10);
  assert.deepEqual(store.history.page("ftjob-1", { after: 1, limit: 1 }), history.slice(1));
  assert.deepEqual(store.history.metricNames("ftjob-1"), { train: ["rewardMargin"], valid: [] });
});

test("losses are thinned to so many stretches, each told by its last step", (context) => {
  const store = opener(context)();
  store.save(fixtureJob());
  const last = 1003;
  for (let n = 1; n <= last; n++) {
    store.history.addStep("ftjob-1", step(n));
    if (n % 4 === 0) store.history.addValidation("ftjob-1", { step: n, loss: n, metrics: {} });
  }
  store.flush();
  const { history } = store;
  for (const [most, of] of fc.sample(fc.tuple(fc.integer({ min: 1, max: 2000 }), fc.boolean()), 50)) {
    const table = of ? "steps" : "validations";
    const losses = history.losses("ftjob-1", table, most);
    const all = Array.from({ length: last }, (_, n) => n + 1).filter((n) => of || n % 4 === 0);
    const stride = Math.ceil(last / most);
    const stretchOf = (n: number) => Math.floor((last - n) / stride);
    const expected = all.filter((n, at) => at === all.length - 1 || stretchOf(all[at + 1]!) !== stretchOf(n));
    assert.ok(losses.length <= most);
    assert.deepEqual(
      losses,
      expected.map((n) => [n, of ? 1 / n : n]),
    );
  }
  assert.equal(store.history.trainedTokens("ftjob-1"), 5 * last);
});

test("a save that fails takes nothing of what waited before with it, and later events find their numbers", (context) => {
  const store = opener(context)();
  const job = fixtureJob();
  store.save(job, { news: [news("1")] });
  store.addNews(job.id, news("2"));
  const unsaved = { ...job, tenant: { ...job.tenant, id: null as unknown as string } };
  const another = { ...unsaved, id: "ftjob-2" }; // an insert, which the table refuses
  assert.throws(() => store.save(another, { news: [news("never")] }));
  const row = { step: Number.NaN, createdAtMs: 1, adapterId: "a", version: "v", metrics: {} }; // no key
  assert.throws(() => store.save(job, { checkpoint: row, news: [news("never")] }));
  store.addNews(job.id, news("3"));
  store.save(job, { news: [news("4")] });
  assert.deepEqual(
    store.newsSince(job.id, 0, 10).map(({ index, message }) => [index, message]),
    [1, 2, 3, 4].map((n) => [n, String(n)]),
  );
});

test("an ended job's steps go after their time, its sum and its messages stay", async (context) => {
  const directory = mkdtempSync(join(tmpdir(), "cotenant-jobs-"));
  context.after(() => rmSync(directory, { recursive: true }));
  const store = openJobStore({
    path: join(directory, "jobs.sqlite"),
    baseFingerprint: "base",
    logger: createLogger("silent"),
    flushMs: 1,
    historyMs: 20,
  });
  context.after(() => store.close());
  for (const id of ["ftjob-1", "ftjob-2"]) {
    store.save(fixtureJob({ id }), { news: [news("made")] });
    for (let n = 1; n <= 4500; n++) store.history.addStep(id, step(n));
    store.history.addValidation(id, { step: 2, loss: 1, metrics: {} });
    store.addNews(id, { ...news("Step 1"), type: "metrics" });
  }
  store.save(transition(fixtureJob(), "cancelled"));
  const left = (id: string) => store.history.page(id, { after: 0, limit: 10_000 }).length;
  await until(() => left("ftjob-1") <= 1);
  assert.equal(left("ftjob-1"), 1);
  assert.equal(store.history.trainedTokens("ftjob-1"), 22_500);
  assert.equal(left("ftjob-2"), 4500);
  await until(() => store.newsSince("ftjob-1", 0, 10).length <= 1);
  assert.deepEqual(
    store.newsSince("ftjob-1", 0, 10).map(({ message }) => message),
    ["made"],
  );
});

test("followers hear of what was written; a save that failed leaves nothing behind", (context) => {
  const store = opener(context)();
  const job = fixtureJob();
  store.save(job);
  let heard = 0;
  const unfollow = store.follow(job.id, () => heard++);
  store.addNews(job.id, news("later"));
  assert.equal(heard, 0);
  store.flush();
  assert.equal(heard, 1);
  const impossible = { ...job, id: null as unknown as string };
  assert.throws(() => store.save(impossible));
  store.save(job, { news: [news("after")] });
  assert.equal(heard, 2);
  unfollow();
  store.save(job);
  assert.equal(heard, 2);
});

test("states change as they may and no other way", () => {
  const allowed = jobStatuses.flatMap((from) =>
    jobStatuses
      .filter((to) => {
        try {
          transition(fixtureJob({ status: from }), to);
          return true;
        } catch (error) {
          assert.ok(error instanceof JobStateError);
          return false;
        }
      })
      .map((to) => `${from} ${to}`),
  );
  assert.deepEqual(allowed, [
    "validating_files queued",
    "validating_files paused",
    "validating_files failed",
    "validating_files cancelled",
    "queued running",
    "queued paused",
    "queued failed",
    "queued cancelled",
    "running paused",
    "running succeeded",
    "running failed",
    "running cancelled",
    "paused validating_files",
    "paused queued",
    "paused cancelled",
  ]);
  assert.ok(transition(fixtureJob(), "failed").finishedAtMs);
  assert.equal(transition(fixtureJob(), "paused").finishedAtMs, null);
});

test("jobs of another version of cotenant are refused with what to do, and left as they are", (context) => {
  const directory = mkdtempSync(join(tmpdir(), "cotenant-jobs-"));
  context.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, "jobs.sqlite");
  const logger = createLogger("silent");
  for (const [version, age] of [
    [1, "an older"],
    [2, "an older"],
    [99, "a newer"],
  ] as const) {
    const database = new DatabaseSync(path);
    database.exec(`PRAGMA user_version = ${version}; CREATE TABLE IF NOT EXISTS jobs (id TEXT) STRICT;`);
    database.close();
    const content = readFileSync(path);
    assert.throws(() => openJobStore({ path, baseFingerprint: "base", logger }), {
      code: "jobs_unusable",
      message: new RegExp(
        `${age} version .*schema ${version}, this one has \\d+.*; start that version until`,
      ),
    });
    assert.deepEqual(readFileSync(path), content);
    assert.deepEqual(readdirSync(directory), ["jobs.sqlite"]);
  }
});
