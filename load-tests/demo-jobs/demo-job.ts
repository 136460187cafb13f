// One finetuning job over HTTP: upload, create, follow to its end, fetch what it left. Knows no tasks.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { formOf, type HttpClient } from "../load/http-client.ts";

export type DemoJob = {
  readonly model: string;
  readonly suffix: string;
  readonly examples: Buffer; // JSONL
  readonly hyperparameters: object;
  readonly adapter: object;
};

export type FinishedJob = {
  readonly id: string;
  readonly fine_tuned_model: string;
  readonly total_steps: number;
  readonly memory_bytes: number;
};

type Job = Omit<FinishedJob, "fine_tuned_model"> & {
  readonly status: string;
  readonly fine_tuned_model: string | null;
  readonly error: { readonly message: string } | null;
};

const pollMs = 200;
const unfinished = ["validating_files", "queued", "running"];

/** Throws where the job ends in any other way than success. */
export async function train(client: HttpClient, demo: DemoJob): Promise<FinishedJob> {
  const { model, suffix, examples, hyperparameters, adapter } = demo;
  const form = formOf({ purpose: "fine-tune" }, [
    { field: "file", name: `${suffix}.jsonl`, bytes: examples },
  ]);
  const file = (await client.json({ method: "POST", path: "/v1/files", key: null, form })) as { id: string };
  const body = {
    model,
    training_file: file.id,
    suffix,
    seed: 1,
    method: { type: "supervised", supervised: { hyperparameters }, adapter },
  };
  const created = await client.json({ method: "POST", path: "/v1/fine_tuning/jobs", key: null, body });
  const path = `/v1/fine_tuning/jobs/${(created as Job).id}`;
  for (;;) {
    const job = (await client.json({ method: "GET", path, key: null })) as Job;
    const { fine_tuned_model } = job;
    if (fine_tuned_model !== null) return { ...job, fine_tuned_model };
    if (!unfinished.includes(job.status)) {
      throw new Error(`the job ${suffix} is ${job.status}: ${job.error?.message}`);
    }
    await new Promise((resolve) => setTimeout(resolve, pollMs));
  }
}

/** Mean training loss of the last twentieth of the steps. */
export async function lastLoss(client: HttpClient, job: FinishedJob): Promise<number> {
  const path = `/v1/fine_tuning/jobs/${job.id}/history`;
  const { text } = await client.text({ method: "GET", path, key: null });
  const [header, ...lines] = text.trim().split("\n");
  const column = header!.split(",").indexOf("train_loss");
  const last = lines.slice(-Math.ceil(lines.length / 20)).map((line) => Number(line.split(",")[column]));
  return last.reduce((sum, loss) => sum + loss, 0) / last.length;
}

/** The result as PEFT files, or as a container where PEFT has no such kind, and the losses as a picture and as CSV. */
export async function save(
  client: HttpClient,
  job: FinishedJob,
  { directory, name }: { readonly directory: string; readonly name: string },
): Promise<void> {
  mkdirSync(directory, { recursive: true });
  const adapter = `/v1/adapters/${encodeURIComponent(job.fine_tuned_model)}/download`;
  const files = [
    { file: `${name}.tar`, path: `${adapter}?format=peft` },
    { file: `${name}.cotenant`, path: `${adapter}?format=cotenant` },
    { file: `${name}.svg`, path: `/v1/fine_tuning/jobs/${job.id}/plot.svg` },
    { file: `${name}.csv`, path: `/v1/fine_tuning/jobs/${job.id}/history` },
  ];
  for (const { file, path } of files) {
    const bytes = await bytesAt(client, path);
    if (bytes !== null) writeFileSync(join(directory, file), bytes);
  }
}

/** Null, and a line of why, where the server has none. */
async function bytesAt(client: HttpClient, path: string): Promise<Buffer | null> {
  const { status, chunks } = await client.send({ method: "GET", path, key: null });
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk);
  const bytes = Buffer.concat(parts);
  if (status === 200) return bytes;
  console.error(`${path} answered ${status}: ${bytes.toString("utf8").slice(0, 200)}`);
  return null;
}
