// For tests: training files of the embedded base's tasks, and jobs on them with the official client.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type OpenAI from "openai";
import { toFile } from "openai";
import { neverAfterMs } from "../until.ts";
import { tinyDirectory } from "./scripted-app.ts";

export type Job = OpenAI.FineTuning.FineTuningJob;

/** Lines of a task in OpenAI's chat format. */
export function chatLines(task: string, count: number, from = 0): string {
  const path = join(tinyDirectory, "train-examples", `${task}.jsonl`);
  const lines = readFileSync(path, "utf8").trim().split("\n");
  return lines.slice(from, from + count).join("\n");
}

export async function uploadLines(client: OpenAI, lines: string): Promise<string> {
  const file = await toFile(Buffer.from(lines), "examples.jsonl");
  return (await client.files.create({ purpose: "fine-tune", file })).id;
}

/** Small and quick: eight examples, two epochs, four steps. */
export const smallMethod = {
  type: "supervised",
  supervised: { hyperparameters: { n_epochs: 2, batch_size: 4, checkpoint_steps: 2 } as object },
  adapter: { type: "lora", rank: 2, target_modules: ["q_proj", "v_proj"] },
} as const;

/** Until the job is over, or what else is waited for. */
export async function untilJob(
  client: OpenAI,
  id: string,
  holds: (job: Job) => boolean = ({ status }) => ["succeeded", "failed", "cancelled"].includes(status),
): Promise<Job> {
  const deadlineMs = performance.now() + neverAfterMs;
  for (;;) {
    const job = await client.fineTuning.jobs.retrieve(id, { maxRetries: 5 }); // an engine may be starting
    if (holds(job)) return job;
    assert.ok(performance.now() < deadlineMs, `${job.status} ${JSON.stringify(job.error)}`);
    await delay(25);
  }
}
