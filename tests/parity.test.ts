// Every golden case against Hugging Face transformers + PEFT: the base and both adapters, alone and in one batch,
// prompts whole and in chunks. The issue asks for 1e-3; what float32 reaches here is held to `ownTolerance`.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { CpuRunner } from "../kernels/cpu/cpu-runner.ts";
import { modelFamilies } from "../kernels/models/index.ts";
import { argmax } from "../kernels/sampling/logprobs.ts";
import {
  allGoldenCases,
  distance,
  type GoldenCase,
  type GoldenRun,
  logitRow,
  logSoftmax,
  openGolden,
  temporaryCache,
} from "./golden/golden-case.ts";

/** On log-probabilities; the goldens are rounded to 5e-5 themselves. */
const requiredTolerance = 1e-3;
const ownTolerance = 2e-4;

const chunkTokens = 7;

const cases = allGoldenCases();
const cacheDirectory = temporaryCache();

test("every model family has a golden case", () => {
  const tested = new Set(cases.map(({ modelType }) => modelType));
  assert.deepEqual([...tested].sort(), Object.keys(modelFamilies).sort());
});

for (const golden of cases) {
  test(golden.name, async (t) => {
    const { runner } = await openGolden(golden, { cacheDirectory, maxRows: golden.runs.length });
    await t.test("alone", async () => {
      for (const run of golden.runs) await checkAlone(runner, golden, run);
    });
    await t.test(`prompts in chunks of ${chunkTokens}`, async () => {
      for (const run of golden.runs) await checkChunked(runner, golden, run);
    });
    await t.test("in a batch", () => checkBatch(runner, golden));
    await runner.dispose();
  });
}

async function checkAlone(runner: CpuRunner, golden: GoldenCase, run: GoldenRun): Promise<void> {
  const prompt = golden.prompts[run.prompt]!;
  runner.open("alone", { adapterVersion: run.adapter, prefix: null });
  const logits = await runner.prefill({
    sequence: "alone",
    tokenIds: prompt,
    promptLength: prompt.length,
    logits: "all",
  });
  const logprobs = prompt.map((_, position) => logSoftmax(logitRow(logits, position)));
  for (const [index, position] of run.positions.entries()) {
    assertClose(logprobs[position]!, run.logprobs[index]!, `${describe(run)}, position ${position}`);
  }
  for (let position = 1; position < prompt.length; position++) {
    const logprob = logprobs[position - 1]![prompt[position]!]!;
    assertClose([logprob], [run.tokenLogprobs[position]!], `${describe(run)}, token ${position}`);
  }
  const text = new GreedyText(run);
  text.take(logprobs.at(-1)!);
  while (!text.done) {
    const next = await runner.decode([{ sequence: "alone", tokenId: text.lastTokenId }]);
    text.take(logSoftmax(logitRow(next, 0)));
  }
  runner.close("alone");
}

async function checkChunked(runner: CpuRunner, golden: GoldenCase, run: GoldenRun): Promise<void> {
  const prompt = golden.prompts[run.prompt]!;
  runner.open("chunked", { adapterVersion: run.adapter, prefix: null });
  const logprobs: Float64Array[] = [];
  for (let at = 0; at < prompt.length; at += chunkTokens) {
    const tokenIds = prompt.slice(at, at + chunkTokens);
    const logits = await runner.prefill({
      sequence: "chunked",
      tokenIds,
      promptLength: prompt.length,
      logits: "all",
    });
    for (let row = 0; row < logits.count; row++) logprobs.push(logSoftmax(logitRow(logits, row)));
  }
  for (const [index, position] of run.positions.entries()) {
    assertClose(logprobs[position]!, run.logprobs[index]!, `${describe(run)}, position ${position}`);
  }
  runner.close("chunked");
}

/** All runs of the case in one batch: run n joins at step 2 n, by chunks between the steps, and leaves when done. */
async function checkBatch(runner: CpuRunner, golden: GoldenCase): Promise<void> {
  const waiting = golden.runs.map((run, index) => ({ run, sequence: `${index}`, text: new GreedyText(run) }));
  const running: typeof waiting = [];
  let mostAdapters = 0; // in one step, the base counted as one
  let mostRows = 0;
  for (let step = 0; waiting.length > 0 || running.length > 0; step++) {
    if (step % 2 === 0 && waiting.length > 0) {
      const joining = waiting.shift()!;
      const prompt = golden.prompts[joining.run.prompt]!;
      runner.open(joining.sequence, { adapterVersion: joining.run.adapter, prefix: null });
      for (let at = 0; at < prompt.length; at += chunkTokens) {
        await decodeAll(runner, running);
        const tokenIds = prompt.slice(at, at + chunkTokens);
        const chunk = { sequence: joining.sequence, tokenIds, promptLength: prompt.length };
        const logits = await runner.prefill({ ...chunk, logits: "last" });
        if (at + chunkTokens >= prompt.length) joining.text.take(logSoftmax(logitRow(logits, 0)));
      }
      running.push(joining);
    }
    mostAdapters = Math.max(mostAdapters, new Set(running.map(({ run }) => run.adapter)).size);
    mostRows = Math.max(mostRows, running.length);
    await decodeAll(runner, running);
  }
  assert.equal(mostAdapters, 3, "base, wide and narrow were never in one step");
  assert.ok(mostRows >= 4, `only ${mostRows} rows were ever in one step`);
}

type Running = { readonly run: GoldenRun; readonly sequence: string; readonly text: GreedyText };

/** One step of all running rows; those that end leave. */
async function decodeAll(runner: CpuRunner, running: Running[]): Promise<void> {
  if (running.length === 0) return;
  const logits = await runner.decode(
    running.map(({ sequence, text }) => ({ sequence, tokenId: text.lastTokenId })),
  );
  for (const [row, { text }] of running.entries()) text.take(logSoftmax(logitRow(logits, row)));
  for (const { sequence, text } of running) if (text.done) runner.close(sequence);
  running.splice(0, running.length, ...running.filter(({ text }) => !text.done));
}

/** Follows a golden greedy text token by token. */
class GreedyText {
  readonly #run: GoldenRun;
  #taken = 0;
  lastTokenId = -1;

  constructor(run: GoldenRun) {
    this.#run = run;
  }

  get done(): boolean {
    return this.#taken === this.#run.greedy.length;
  }

  take(logprobs: Float64Array): void {
    const step = this.#taken++;
    const where = `${describe(this.#run)}, step ${step}`;
    this.lastTokenId = argmax(Float32Array.from(logprobs));
    assert.equal(this.lastTokenId, this.#run.greedy[step], where);
    assertClose([logprobs[this.lastTokenId]!], [this.#run.greedyLogprobs[step]!], where);
  }
}

function assertClose(actual: ArrayLike<number>, expected: ArrayLike<number>, where: string): void {
  const worst = distance(actual, expected);
  assert.ok(
    worst <= requiredTolerance,
    `${where}: log-probabilities differ by ${worst}, over the required 1e-3`,
  );
  assert.ok(
    worst <= ownTolerance,
    `${where}: log-probabilities differ by ${worst}, over our own ${ownTolerance}`,
  );
}

function describe(run: GoldenRun): string {
  return `adapter ${run.adapter ?? "none"}, prompt ${run.prompt}`;
}
