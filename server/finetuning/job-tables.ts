// The SQLite tables of finetuning jobs, and what their rows hold. Changes nothing but the schema.

import { DatabaseSync } from "node:sqlite";
import { CotenantError } from "../../kernels/errors.ts";
import type { JobCheckpointRow, JobNewsEntry, JobRecord, JobStep, JobValidation } from "./job-record.ts";

/** A step, and what was measured on the validation file after it. */
export type HistoryStep = JobStep & { readonly validation: Omit<JobValidation, "step"> | null };

const schemaVersion = 3;

const schema = `
  CREATE TABLE IF NOT EXISTS jobs (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    base TEXT NOT NULL,
    status TEXT NOT NULL,
    is_over INTEGER NOT NULL,
    history_until_ms INTEGER, -- Unix time; null = it is kept
    record TEXT NOT NULL
  ) STRICT;
  CREATE INDEX IF NOT EXISTS jobs_by_tenant ON jobs (tenant, base, place);
  CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (base, status);
  CREATE INDEX IF NOT EXISTS jobs_unfinished ON jobs (is_over, tenant) WHERE is_over = 0;
  CREATE INDEX IF NOT EXISTS jobs_by_history ON jobs (history_until_ms) WHERE history_until_ms IS NOT NULL;
  CREATE TABLE IF NOT EXISTS tags (
    tenant TEXT NOT NULL,
    base TEXT NOT NULL,
    tag TEXT NOT NULL,
    place INTEGER NOT NULL, -- of the job
    PRIMARY KEY (tenant, base, tag, place)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS events (
    job TEXT NOT NULL,
    number INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    news TEXT NOT NULL,
    PRIMARY KEY (job, number)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS steps (
    job TEXT NOT NULL,
    step INTEGER NOT NULL,
    loss REAL,
    tokens INTEGER NOT NULL,
    total_tokens INTEGER NOT NULL, -- of all steps up to this one
    learning_rate REAL NOT NULL,
    gradient_norm REAL,
    skipped INTEGER NOT NULL,
    metrics TEXT NOT NULL,
    PRIMARY KEY (job, step)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS validations (
    job TEXT NOT NULL,
    step INTEGER NOT NULL,
    loss REAL,
    metrics TEXT NOT NULL,
    PRIMARY KEY (job, step)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS checkpoints (
    job TEXT NOT NULL,
    step INTEGER NOT NULL,
    row TEXT NOT NULL,
    PRIMARY KEY (job, step)
  ) STRICT, WITHOUT ROWID;
  PRAGMA user_version = ${schemaVersion};
`;

/** Throws CotenantError `jobs_unusable`. */
export function openJobTables(path: string): DatabaseSync {
  try {
    const database = new DatabaseSync(path);
    const version = Number(database.prepare("PRAGMA user_version").get()!.user_version);
    if (version !== 0 && version !== schemaVersion) throw otherSchema(path, version);
    // NORMAL: a commit appends to the log and does not wait for the disk, which would hold up every request.
    database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;");
    database.exec(schema);
    return database;
  } catch (cause) {
    if (cause instanceof CotenantError) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    const remedy = "restore it from a backup, or move it away to begin without jobs";
    throw new CotenantError("jobs_unusable", `finetuning jobs ${path}: ${reason}; ${remedy}`, { cause });
  }
}

/** Jobs that are half done cannot be carried over: what they go on from is the other version's, too. */
function otherSchema(path: string, version: number): CotenantError {
  const age = version < schemaVersion ? "an older" : "a newer";
  return new CotenantError(
    "jobs_unusable",
    `finetuning jobs ${path}: ${age} version of cotenant wrote them (schema ${version}, this one has ${schemaVersion}); start that version until they are over, then move the file away, with those that are named as it is and end in -wal and -shm, to begin without jobs: adapters and files stay`,
  );
}

type Row = Readonly<Record<string, unknown>>;

export function parseRecord({ record }: Row): JobRecord {
  return JSON.parse(String(record));
}

export function parseNews({ number, created_ms, news }: Row): JobNewsEntry {
  return { ...JSON.parse(String(news)), index: Number(number), createdAtMs: Number(created_ms) };
}

export function parseCheckpoint({ row }: Row): JobCheckpointRow {
  return JSON.parse(String(row));
}

/** A loss that was not finite is NaN. */
export function parseHistoryStep(row: Row): HistoryStep {
  return {
    step: Number(row.step),
    trainLoss: row.loss === null ? Number.NaN : Number(row.loss),
    tokens: Number(row.tokens),
    learningRate: Number(row.learning_rate),
    gradientNorm: row.gradient_norm === null ? null : Number(row.gradient_norm),
    skipped: row.skipped === 1,
    trainMetrics: JSON.parse(String(row.metrics)),
    validation:
      row.valid_metrics === null
        ? null
        : {
            loss: row.valid_loss === null ? Number.NaN : Number(row.valid_loss),
            metrics: JSON.parse(String(row.valid_metrics)),
          },
  };
}
