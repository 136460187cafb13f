// A job's steps as lines of CSV: what was measured of each, and on the validation file after it. What is not known or
// not finite is an empty field.

import type { HistoryStep } from "./job-history.ts";
import { named } from "./job-news.ts";
import type { JobStore } from "./job-store.ts";

/** More than a line takes with six metrics: what is reserved for it. */
export const stepsLineBytes = 256;

const stepsAtOnce = 1000;

const trainAccuracy = { here: "train_mean_token_accuracy", openAi: "train_accuracy" };
/** OpenAI's columns of a result file; accuracies are empty for objectives that have none. */
const resultColumns = ["step", "train_loss", trainAccuracy.openAi, "valid_loss", "valid_mean_token_accuracy"];

/** In pieces of some steps, which are read when the piece is asked for. */
export function* stepsCsv(store: JobStore, jobId: string): Generator<string> {
  store.flush();
  const columns = columnsOf(store.history.metricNames(jobId));
  yield* lines(store, jobId, columns);
}

/** As `stepsCsv`, with OpenAI's columns in front. */
export function* resultsCsv(store: JobStore, jobId: string): Generator<string> {
  store.flush();
  const own = columnsOf(store.history.metricNames(jobId)).filter((name) => name !== trainAccuracy.here);
  yield* lines(store, jobId, [...new Set([...resultColumns, ...own])]);
}

function* lines(store: JobStore, jobId: string, columns: readonly string[]): Generator<string> {
  yield `${columns.join(",")}\n`;
  for (let last = 0; ; ) {
    const steps = store.history.page(jobId, { after: last, limit: stepsAtOnce });
    if (steps.length > 0) yield steps.map((step) => lineOf(step, columns)).join("");
    if (steps.length < stepsAtOnce) return;
    last = steps.at(-1)!.step;
  }
}

function columnsOf(metrics: Record<"train" | "valid", readonly string[]>): readonly string[] {
  const of = (prefix: "train" | "valid") => {
    const none = Object.fromEntries(metrics[prefix].map((name) => [name, 0]));
    return Object.keys(named(prefix, { loss: 0, metrics: none }));
  };
  return ["step", ...of("train"), ...of("valid"), "tokens", "learning_rate", "gradient_norm", "skipped"];
}

function lineOf(step: HistoryStep, columns: readonly string[]): string {
  const values = new Map<string, number | null>(
    Object.entries({
      step: step.step,
      ...named("train", { loss: step.trainLoss, metrics: step.trainMetrics }),
      ...(step.validation && named("valid", step.validation)),
      tokens: step.tokens,
      learning_rate: step.learningRate,
      gradient_norm: step.gradientNorm,
      skipped: Number(step.skipped),
    }),
  );
  values.set(trainAccuracy.openAi, values.get(trainAccuracy.here) ?? null);
  return `${columns.map((name) => values.get(name) ?? "").join(",")}\n`;
}
