// What every device must give on a golden case: what Hugging Face transformers + PEFT computed, for the base and both
// adapters, alone and in one batch, prompts whole and in chunks.

import assert from "node:assert/strict";
import type { ModelRunner } from "../../kernels/model-runner.ts";
import { argmax } from "../../kernels/sampling/logprobs.ts";
import { distance, type GoldenCase, type GoldenRun, logitRow, logSoftmax } from "./golden-case.ts";

/** On log-probabilities, as the issue asks for; the goldens are rounded to 5e-5 themselves. */
const requiredTolerance = 1e-3;

export type ParityOptions = {
  readonly ownTolerance: number; // what is reached
  readonly chunkTokens: number;
  readonly greedyTokens?: number; // of each text; all unless given
};

export class ParitySuite {
  readonly #runner: ModelRunner;
  readonly #golden: GoldenCase;
  readonly #options: ParityOptions;

  constructor(runner: ModelRunner, golden: GoldenCase, options: ParityOptions) {
    this.#runner = runner;
    this.#golden = golden;
    this.#options = options;
  }

  async checkAlone(run: GoldenRun): Promise<void> {
    const runner = this.#runner;
    const prompt = this.#golden.prompts[run.prompt]!;
    runner.open("alone", { adapterVersion: run.adapter, prefix: null });
    const logits = await runner.prefill({
      sequence: "alone",
      tokenIds: prompt,
      promptLength: prompt.length,
      logits: "all",
    });
    const logprobs = prompt.map((_, position) => logSoftmax(logitRow(logits, position)));
    for (const [index, position] of run.positions.entries()) {
      this.#assertClose(logprobs[position]!, run.logprobs[index]!, `${describe(run)}, position ${position}`);
    }
    for (let position = 1; position < prompt.length; position++) {
      const logprob = logprobs[position - 1]![prompt[position]!]!;
      this.#assertClose([logprob], [run.tokenLogprobs[position]!], `${describe(run)}, token ${position}`);
    }
    const text = this.#follow(run);
    text.take(logprobs.at(-1)!);
    while (!text.done) {
      const next = await runner.decode([{ sequence: "alone", tokenId: text.lastTokenId }]);
      text.take(logSoftmax(logitRow(next, 0)));
    }
    runner.close("alone");
  }

  async checkChunked(run: GoldenRun): Promise<void> {
    const runner = this.#runner;
    const { chunkTokens } = this.#options;
    const prompt = this.#golden.prompts[run.prompt]!;
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
      this.#assertClose(logprobs[position]!, run.logprobs[index]!, `${describe(run)}, position ${position}`);
    }
    runner.close("chunked");
  }

  /** All of the runs in one batch: run n joins at step 2 n, by chunks between the steps, and leaves when done. */
  async checkBatch(runs: readonly GoldenRun[] = this.#golden.runs): Promise<void> {
    const runner = this.#runner;
    const { chunkTokens } = this.#options;
    const waiting = runs.map((run, index) => ({ run, sequence: `${index}`, text: this.#follow(run) }));
    const running: typeof waiting = [];
    let mostAdapters = 0; // in one step, the base counted as one
    let mostRows = 0;
    for (let step = 0; waiting.length > 0 || running.length > 0; step++) {
      if (step % 2 === 0 && waiting.length > 0) {
        const joining = waiting.shift()!;
        const prompt = this.#golden.prompts[joining.run.prompt]!;
        runner.open(joining.sequence, { adapterVersion: joining.run.adapter, prefix: null });
        for (let at = 0; at < prompt.length; at += chunkTokens) {
          await this.#decodeAll(running);
          const tokenIds = prompt.slice(at, at + chunkTokens);
          const chunk = { sequence: joining.sequence, tokenIds, promptLength: prompt.length };
          const logits = await runner.prefill({ ...chunk, logits: "last" });
          if (at + chunkTokens >= prompt.length) joining.text.take(logSoftmax(logitRow(logits, 0)));
        }
        running.push(joining);
      }
      mostAdapters = Math.max(mostAdapters, new Set(running.map(({ run }) => run.adapter)).size);
      mostRows = Math.max(mostRows, running.length);
      await this.#decodeAll(running);
    }
    assert.equal(mostAdapters, 3, "base, wide and narrow were never in one step");
    assert.ok(mostRows >= 4, `only ${mostRows} rows were ever in one step`);
  }

  /** One step of all running rows; those that end leave. */
  async #decodeAll(running: Running[]): Promise<void> {
    const runner = this.#runner;
    if (running.length === 0) return;
    const logits = await runner.decode(
      running.map(({ sequence, text }) => ({ sequence, tokenId: text.lastTokenId })),
    );
    for (const [row, { text }] of running.entries()) text.take(logSoftmax(logitRow(logits, row)));
    for (const { sequence, text } of running) if (text.done) runner.close(sequence);
    running.splice(0, running.length, ...running.filter(({ text }) => !text.done));
  }

  #follow(run: GoldenRun): GreedyText {
    const { ownTolerance, greedyTokens = run.greedy.length } = this.#options;
    return new GreedyText({ ...run, greedy: run.greedy.slice(0, greedyTokens) }, ownTolerance);
  }

  #assertClose(actual: ArrayLike<number>, expected: ArrayLike<number>, where: string): void {
    assertClose({ actual, expected, where }, this.#options.ownTolerance);
  }
}

type Running = { readonly run: GoldenRun; readonly sequence: string; readonly text: GreedyText };

/** Follows a golden greedy text token by token. */
class GreedyText {
  readonly #run: GoldenRun;
  readonly #tolerance: number;
  #taken = 0;
  lastTokenId = -1;

  constructor(run: GoldenRun, tolerance: number) {
    this.#run = run;
    this.#tolerance = tolerance;
  }

  get done(): boolean {
    return this.#taken === this.#run.greedy.length;
  }

  take(logprobs: Float64Array): void {
    const step = this.#taken++;
    const where = `${describe(this.#run)}, step ${step}`;
    this.lastTokenId = argmax(Float32Array.from(logprobs));
    assert.equal(this.lastTokenId, this.#run.greedy[step], where);
    const actual = [logprobs[this.lastTokenId]!];
    assertClose({ actual, expected: [this.#run.greedyLogprobs[step]!], where }, this.#tolerance);
  }
}

type Compared = {
  readonly actual: ArrayLike<number>;
  readonly expected: ArrayLike<number>;
  readonly where: string;
};

function assertClose({ actual, expected, where }: Compared, ownTolerance: number): void {
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
