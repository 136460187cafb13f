// For tests: a job's record, and an engine that trains one number by a rule that everybody can repeat.

import type { JobCheckpoint, JobEvent, JobStart, TrainingSpec } from "../../finetuning/job.ts";
import type { DecodedAdapter } from "../../kernels/adapter.ts";
import { defaultTenant } from "../tenancy/tenant.ts";
import type { JobPlan, JobRecord } from "./job-record.ts";

export const fixtureSpec: TrainingSpec = {
  method: { name: "lora", settings: { rank: 1 } },
  objective: { name: "cross-entropy", beta: 0.1 },
  optimizer: { name: "sgd", settings: {} },
  schedule: "constant",
  warmupSteps: 0,
  learningRate: 0.1,
  epochs: 1,
  batchSize: 1,
  passTokens: 64,
  windowTokens: 32,
  precision: "float32",
  maxGradientNorm: 1,
  maxSkippedSteps: 3,
  checkpointSteps: 2,
  seed: 1,
};

export const fixturePlan: JobPlan = {
  spec: fixtureSpec,
  resolved: {},
  memoryBytes: 1,
  keptBytes: 0,
  truncatedExamples: 0,
  examplesHash: "examples",
};

export function fixtureJob(changes: Partial<JobRecord> = {}): JobRecord {
  return {
    id: "ftjob-1",
    tenant: defaultTenant,
    baseFingerprint: "base",
    status: "queued",
    createdAtMs: 1_000,
    finishedAtMs: null,
    model: "tiny",
    parent: null,
    resultId: "ft-tiny-x-1",
    suffix: null,
    trainingFile: "file-1",
    validationFile: null,
    asked: {
      path: "hyperparameters",
      method: fixtureSpec.method,
      objective: "cross-entropy",
      seed: 1,
      hyperparameters: {},
    },
    maxTokens: 64,
    overLength: "refuse",
    trainOnPrompt: false,
    resultBytes: 4,
    quantization: "none",
    metadata: null,
    plan: fixturePlan,
    steps: null,
    resultVersion: null,
    resultFile: null,
    engineDeaths: 0,
    problem: null,
    ...changes,
  };
}

/** The one number after so many steps. */
export function valueAfter(step: number): number {
  let value = 1;
  for (let i = 1; i <= step; i++) value = Math.fround(value * 1.1 + i);
  return value;
}

export function adapterOf(value: number): DecodedAdapter {
  const one = Float32Array.of(value);
  return { modules: [{ kind: "low-rank", layer: 0, projection: "q", rank: 1, a: one, b: one }] };
}

/** Asked before every step; what it gives ends the stream so. */
export type Fate = (step: number) => Error | JobEvent | null;

/** Trains `steps` steps from the checkpoint on. Each step waits for a turn of the event loop. */
export class FixtureEngine {
  readonly starts: number[] = []; // the steps that runs began after
  readonly startedIds: string[] = [];
  prepare: () => Promise<void> = async () => {}; // of a run, before it has started
  hold: Promise<void> = Promise.resolve(); // runs wait for it once they have started
  readonly #steps: number;
  readonly #fate: Fate;
  readonly #pausing = new Set<string>();

  constructor(steps: number, fate: Fate = () => null) {
    this.#steps = steps;
    this.#fate = fate;
  }

  async *train({ id, spec, checkpoint }: JobStart, signal?: AbortSignal): AsyncGenerator<JobEvent> {
    let step = checkpoint?.step ?? 0;
    let value = checkpoint === null ? 1 : checkpoint.arrays.value![0]!;
    this.starts.push(step);
    this.startedIds.push(id);
    yield { type: "preparing" };
    await this.prepare();
    const kept = (): JobEvent => {
      const state: JobCheckpoint = { step, values: { step }, arrays: { value: Float32Array.of(value) } };
      return { type: "checkpoint", checkpoint: state, adapter: adapterOf(value) };
    };
    yield { type: "started", steps: this.#steps, parameters: 1 };
    await this.hold;
    if (step === this.#steps) yield kept();
    while (step < this.#steps) {
      await new Promise((resolve) => setImmediate(resolve));
      signal?.throwIfAborted();
      if (this.#pausing.delete(id)) {
        yield kept();
        yield { type: "paused", reason: null };
        return;
      }
      const fate = this.#fate(step);
      if (fate instanceof Error) throw fate;
      if (fate !== null) {
        yield fate;
        return;
      }
      step++;
      value = Math.fround(value * 1.1 + step);
      const measured = { loss: 1 / step, metrics: {} };
      yield {
        type: "step",
        step,
        tokens: 10,
        learningRate: 0.1,
        gradientNorm: 1,
        skipped: false,
        ...measured,
      };
      if (step % spec.checkpointSteps === 0 || step === this.#steps) {
        yield { type: "validation", step, loss: 2 / step, metrics: {} };
        yield kept();
      }
    }
    yield { type: "finished" };
  }

  pauseTraining(id: string): void {
    this.#pausing.add(id);
  }
}
