// For tests: a server's part of jobs, over a folder that outlives it and an engine that everybody can repeat.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { neverAfterMs } from "../../tests/until.ts";
import { createLogger } from "../logger.ts";
import { VersionUses } from "../version-uses.ts";
import { JobCheckpoints } from "./job-checkpoints.ts";
import { type FixtureEngine, fixturePlan } from "./job-fixture.ts";
import { JobManager, type JobManagerOptions } from "./job-manager.ts";
import { checkpointIdOf, type JobRecord } from "./job-record.ts";
import { openJobStore } from "./job-store.ts";

export type Published = { readonly value: number; readonly isResult: boolean };
export type Scene = Awaited<ReturnType<typeof openScene>>;

export async function openScene(
  context: TestContext,
  directory: string,
  engine: FixtureEngine,
  options: Partial<JobManagerOptions> & { readonly refuse?: (published: Published) => Error | null } = {},
) {
  const published = new Map<string, number>();
  const { refuse = () => null, ...overrides } = options;
  const uses = new VersionUses();
  const kept: string[] = []; // ids of files of steps
  const logger = createLogger("silent");
  const store = openJobStore({ path: join(directory, "jobs.sqlite"), baseFingerprint: "base", logger });
  const manager = new JobManager({
    engine,
    store,
    checkpoints: new JobCheckpoints(join(directory, "checkpoints")),
    publisher: {
      async publish(job, { adapter, step, isResult }) {
        await delay(1);
        const [module] = adapter.modules;
        const value = module?.kind === "low-rank" ? module.a[0]! : Number.NaN;
        const problem = refuse({ value, isResult });
        if (problem !== null) throw problem;
        const id = isResult ? job.resultId : checkpointIdOf(job.resultId, step);
        published.set(id, value);
        return { id, version: `v${value}` } as never;
      },
    },
    ledgers: { keep: async () => {}, container: async () => new Uint8Array(0), remove: async () => {} },
    load: async () => ({ training: noExamples, validation: null, from: null, examplesHash: "examples" }),
    plan: async () => fixturePlan,
    keepSteps: async ({ resultFile }) => void kept.push(resultFile!),
    metrics: { observeCheckpoint: () => {}, observeLoss: () => {}, forgetLoss: () => {} },
    logger,
    memoryBytes: 1000,
    hold: (version, hold) => uses.hold(version, hold),
    assertRoom: () => {},
    retryMs: 1,
    ...overrides,
  });
  context.after(async () => {
    await manager.close(0);
    store.close();
  });
  await manager.start();
  const messages = (id = "ftjob-1") => store.newsSince(id, 0, 1000).map(({ message }) => message);
  const until = async (holds: (job: JobRecord) => boolean, id = "ftjob-1") => {
    const deadlineMs = performance.now() + neverAfterMs;
    while (!holds(store.get(id)!)) {
      assert.ok(performance.now() < deadlineMs, JSON.stringify([store.get(id)!.status, messages(id)]));
      await delay(1);
    }
    return store.get(id)!;
  };
  return { directory, manager, store, published, messages, until, uses, kept };
}

export const noExamples = {
  tokenIds: new Int32Array(0),
  weights: new Float32Array(0),
  ends: new Int32Array(0),
};

export function folder(context: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "cotenant-jobs-"));
  context.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}
