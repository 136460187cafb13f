// Runs all choices of one HTTP request on the engine, meters them, and aborts them together.

import { linkedController } from "../linked-controller.ts";
import type { GenerationMeter, Metrics } from "../metrics.ts";
import { type ChoicePlan, type ChoiceRunner, type EnginePiece, generateChoice } from "./choice.ts";
import { merge } from "./merge.ts";

export type ChoicesRunner = ChoiceRunner & {
  readonly metrics: Pick<Metrics, "startGeneration">;
  readonly onUnread: (pieces: number) => void; // as merge has it
};

/** Pieces with the index of their choice. Leaving the loop aborts every choice that is still running. */
export async function* runChoices(
  plans: readonly ChoicePlan[],
  runner: ChoicesRunner,
): AsyncGenerator<readonly [index: number, piece: EnginePiece]> {
  const leaving = linkedController(runner.signal);
  try {
    const choices = plans.map((plan) => metered(plan, { ...runner, signal: leaving.signal }));
    yield* merge(choices, runner.onUnread);
  } finally {
    leaving.abort();
  }
}

async function* metered(plan: ChoicePlan, runner: ChoicesRunner): AsyncGenerator<EnginePiece> {
  const meter = runner.metrics.startGeneration({ promptTokens: plan.request.promptTokenIds.length });
  try {
    for await (const piece of generateChoice(plan, runner)) {
      observe(piece, meter);
      yield piece;
    }
  } catch (error) {
    if (!runner.signal.aborted) meter.refused(error);
    throw error;
  } finally {
    meter.end();
  }
}

function observe(piece: EnginePiece, meter: GenerationMeter): void {
  if (piece.type === "token") meter.token();
  if (piece.type === "finished") meter.finished(piece);
}
