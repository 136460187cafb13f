// Runs peft_rows.py where there is a Python that can.

import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { z } from "zod";
import { goalRows } from "./goals.ts";
import type { ReportPlan } from "./report-plan.ts";

const decodeSchema = z.object({
  rows: z.int(),
  adapters: z.int(),
  msPerStep: z.number(),
  tokensPerSecond: z.number(),
});
const answerSchema = z.object({
  device: z.string(),
  dtype: z.string(),
  versions: z.record(z.string(), z.string()),
  decode: z.array(decodeSchema),
});

export type PeftSide = z.infer<typeof answerSchema> | { readonly reason: string };

export function peftSide(python: string, model: string, plan: ReportPlan): PeftSide {
  const imports = spawnSync(python, ["-c", "import torch, transformers, peft"], { encoding: "utf8" });
  if (imports.error !== undefined) return { reason: `${python} does not start: ${imports.error.message}` };
  if (imports.status !== 0) return { reason: imports.stderr.trim().split("\n").at(-1) ?? "" };
  const rows = goalRows(plan);
  const asked = { model, rank: plan.rank, past: plan.past, steps: plan.steps, rows, adapters: rows };
  const script = join(import.meta.dirname, "peft_rows.py");
  const run = spawnSync(python, [script, JSON.stringify(asked)], { encoding: "utf8", maxBuffer: 2 ** 24 });
  if (run.status !== 0) return { reason: run.stderr.trim().split("\n").at(-1) ?? `status ${run.status}` };
  return answerSchema.parse(JSON.parse(run.stdout.trim().split("\n").at(-1)!));
}
