// Whose jobs are, and what those that are not over lay claim to, whatever their base: places, room, files, and adapters
// to continue from.

import type { JobDatabase } from "./job-database.ts";

export class JobClaims {
  readonly #database: JobDatabase;

  constructor(database: JobDatabase) {
    this.#database = database;
  }

  /** Whether a job is there that may go on. */
  isUnfinished(id: string): boolean {
    return this.#get("SELECT 1 FROM jobs WHERE id = ? AND is_over = 0", id) !== undefined;
  }

  /** The tenant of a job, also of one that is over. */
  ownerOf(id: string): string | null {
    const row = this.#get("SELECT tenant FROM jobs WHERE id = ?", id);
    return row === undefined ? null : String(row.tenant);
  }

  /** Jobs of a tenant. */
  unfinishedCount(tenantId: string): number {
    const sql = "SELECT count(*) AS jobs FROM jobs WHERE is_over = 0 AND tenant = ?";
    return Number(this.#get(sql, tenantId)!.jobs);
  }

  /** Room that a tenant's jobs take, or will: their results, checkpoints and files of steps. */
  reserved(tenantId: string): { readonly adapters: number; readonly sizeBytes: number } {
    const sql = `
      SELECT count(*) AS jobs,
        coalesce(sum(record ->> 'resultBytes' + coalesce(record ->> '$.plan.keptBytes', 0)), 0) AS bytes
      FROM jobs WHERE is_over = 0 AND tenant = ?`;
    const { jobs, bytes } = this.#get(sql, tenantId)!;
    return { adapters: Number(jobs), sizeBytes: Number(bytes) };
  }

  /** Adapter versions that jobs continue from. */
  parents(): ReadonlySet<string> {
    const sql = `
      SELECT record ->> '$.parent.version' AS version FROM jobs
      WHERE is_over = 0 AND record ->> '$.parent.version' IS NOT NULL`;
    const rows = this.#database.prepared(sql).all();
    return new Set(rows.map(({ version }) => String(version)));
  }

  /** A job that still needs a file. */
  jobUsing(fileId: string): string | null {
    const sql = `
      SELECT id FROM jobs
      WHERE is_over = 0 AND (record ->> 'trainingFile' = ?1 OR record ->> 'validationFile' = ?1)`;
    const row = this.#get(sql, fileId);
    return row === undefined ? null : String(row.id);
  }

  #get(sql: string, value: string) {
    return this.#database.prepared(sql).get(value);
  }
}
