// What jobs told of their steps: written half a second late, read in pages or thinned, since a job may have a million of
// them, and removed bit by bit once it is old. Changes nothing else of a job.

import type { JobDatabase } from "./job-database.ts";
import type { JobStep, JobValidation } from "./job-record.ts";
import { type HistoryStep, parseHistoryStep } from "./job-tables.ts";

export type { HistoryStep } from "./job-tables.ts";

type Loss = readonly [step: number, loss: number];

const rowsPerExpiry = 2000; // of a table: nobody waits long for it

export class JobHistory {
  readonly #database: JobDatabase;

  /** Reads what is flushed. */
  constructor(database: JobDatabase) {
    this.#database = database;
  }

  addStep(jobId: string, step: JobStep): void {
    const { trainLoss, tokens, learningRate, gradientNorm, skipped, trainMetrics } = step;
    const sql = `
      INSERT OR REPLACE INTO steps
      VALUES (:job, :step, :loss, :tokens, :tokens + coalesce(
        (SELECT total_tokens FROM steps WHERE job = :job AND step < :step ORDER BY step DESC LIMIT 1), 0),
        :rate, :norm, :skipped, :metrics)`;
    this.#database.defer(jobId, sql, {
      job: jobId,
      step: step.step,
      loss: finiteOrNull(trainLoss),
      tokens,
      rate: learningRate,
      norm: finiteOrNull(gradientNorm),
      skipped: Number(skipped),
      metrics: JSON.stringify(trainMetrics),
    });
  }

  /** False where it is known already. */
  addValidation(jobId: string, { step, loss, metrics }: JobValidation): boolean {
    this.#database.flush();
    const known = this.#prepared("SELECT 1 FROM validations WHERE job = ? AND step = ?").get(jobId, step);
    if (known !== undefined) return false;
    const values = [jobId, step, finiteOrNull(loss), JSON.stringify(metrics)];
    this.#database.defer(jobId, "INSERT INTO validations VALUES (?, ?, ?, ?)", values);
    return true;
  }

  /** The newest step that is known; 0 = none. */
  lastStep(jobId: string): number {
    this.#database.flush();
    return Number(this.#prepared("SELECT max(step) AS step FROM steps WHERE job = ?").get(jobId)!.step ?? 0);
  }

  trainedTokens(jobId: string): number {
    this.#database.flush();
    const sql = "SELECT total_tokens AS tokens FROM steps WHERE job = ? ORDER BY step DESC LIMIT 1";
    return Number(this.#prepared(sql).get(jobId)?.tokens ?? 0);
  }

  /** Steps behind the `after`th, oldest first. */
  page(jobId: string, { after, limit }: { readonly after: number; readonly limit: number }): HistoryStep[] {
    const sql = `
      SELECT steps.*, validations.loss AS valid_loss, validations.metrics AS valid_metrics
      FROM steps LEFT JOIN validations USING (job, step) WHERE job = ? AND step > ? ORDER BY step LIMIT ?`;
    return this.#prepared(sql).all(jobId, after, limit).map(parseHistoryStep);
  }

  /** Of at most `most` steps, evenly spread and the last among them, oldest first. One that was not finite is NaN. */
  losses(jobId: string, of: "steps" | "validations", most: number): Loss[] {
    const newest = this.#prepared("SELECT max(step) AS step FROM steps WHERE job = ?").get(jobId)!;
    const stride = Math.max(1, Math.ceil(Number(newest.step ?? 0) / most));
    const sql = `
      WITH RECURSIVE stretch (last) AS (
        SELECT max(step) FROM steps WHERE job = :job
        UNION ALL SELECT last - :stride FROM stretch WHERE last > :stride
      )
      SELECT step, loss FROM stretch CROSS JOIN ${of} ON job = :job AND step = (
        SELECT max(step) FROM ${of} WHERE job = :job AND step <= last AND step > last - :stride
      ) ORDER BY step`;
    const rows = this.#prepared(sql).all({ job: jobId, stride });
    return rows.map(({ step, loss }) => [Number(step), loss === null ? Number.NaN : Number(loss)]);
  }

  /** Of what was measured beside the losses: the job's objective decides them, so one step tells. */
  metricNames(jobId: string): Record<"train" | "valid", readonly string[]> {
    const namesIn = (table: "steps" | "validations") => {
      const sql = `SELECT metrics FROM ${table} WHERE job = ? ORDER BY step DESC LIMIT 1`;
      const row = this.#prepared(sql).get(jobId);
      return row === undefined ? [] : Object.keys(JSON.parse(String(row.metrics)));
    };
    return { train: namesIn("steps"), valid: namesIn("validations") };
  }

  /** The last step stays, which has the job's sum of tokens; so do messages and checkpoints. */
  expireSome(nowMs: number): void {
    const due = "SELECT id FROM jobs WHERE history_until_ms <= ? ORDER BY history_until_ms LIMIT 1";
    const row = this.#prepared(due).get(nowMs);
    if (row === undefined) return;
    const job = String(row.id);
    const removed = [
      this.#removeSome(job, "steps", "step", "step < (SELECT max(step) FROM steps WHERE job = :job)"),
      this.#removeSome(job, "validations", "step", "true"),
      this.#removeSome(job, "events", "number", "news ->> 'type' = 'metrics'"),
    ];
    if (removed.some((rows) => rows > 0)) return; // the next call sees to what is left
    this.#prepared("UPDATE jobs SET history_until_ms = NULL WHERE id = ?").run(job);
  }

  #prepared(sql: string) {
    return this.#database.prepared(sql);
  }

  #removeSome(job: string, table: string, key: string, isOld: string): number {
    const sql = `
      DELETE FROM ${table} WHERE job = :job AND ${key} IN
        (SELECT ${key} FROM ${table} WHERE job = :job AND ${isOld} LIMIT ${rowsPerExpiry})`;
    return Number(this.#prepared(sql).run({ job }).changes);
  }
}

/** SQLite has no NaN. */
function finiteOrNull(value: number | null): number | null {
  return value !== null && Number.isFinite(value) ? value : null;
}
