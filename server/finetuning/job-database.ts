// One connection to the jobs' file, and what waits to be written: it is written together, all or nothing. Knows no
// tables.

import type { DatabaseSync, SQLInputValue, StatementSync } from "node:sqlite";
import { syncPath } from "../../adapters-store/durable-files.ts";

type Values = readonly SQLInputValue[] | Readonly<Record<string, SQLInputValue>>;
type Pending = { readonly statement: StatementSync; readonly values: Values };

export class JobDatabase {
  readonly #database: DatabaseSync;
  readonly #path: string;
  readonly #statements = new Map<string, StatementSync>();
  readonly #followers = new Map<string, Set<() => void>>(); // by job
  readonly #changed = new Set<string>(); // jobs with something pending
  #pending: Pending[] = [];

  constructor(database: DatabaseSync, path: string) {
    this.#database = database;
    this.#path = path;
  }

  prepared(sql: string): StatementSync {
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    const statement = this.#database.prepare(sql);
    this.#statements.set(sql, statement);
    return statement;
  }

  /** It is written with the next flush. */
  defer(jobId: string, sql: string, values: Values): void {
    this.#pending.push({ statement: this.prepared(sql), values });
    this.#changed.add(jobId);
  }

  /** Writes what is pending; on failure it stays pending. */
  flush(): void {
    if (this.#pending.length === 0) return;
    this.#database.exec("BEGIN IMMEDIATE");
    try {
      for (const { statement, values } of this.#pending) {
        if (isList(values)) statement.run(...values);
        else statement.run({ ...values });
      }
      this.#database.exec("COMMIT");
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
      throw error;
    }
    this.#pending = [];
    const changed = [...this.#changed];
    this.#changed.clear();
    for (const jobId of changed) for (const onChange of this.#followers.get(jobId) ?? []) onChange();
  }

  /** Writes what `work` defers, and what was pending. Where that fails, what `work` deferred is pending no more. */
  writeAtOnce(work: () => void): void {
    const pendingBefore = this.#pending.length;
    try {
      work();
      this.flush();
    } catch (error) {
      this.#pending.length = pendingBefore;
      throw error;
    }
  }

  /** Calls back when there may be something new of a job, until what it returns is called. */
  follow(jobId: string, onChange: () => void): () => void {
    const followers = this.#followers.get(jobId) ?? new Set();
    this.#followers.set(jobId, followers.add(onChange));
    return () => {
      followers.delete(onChange);
      if (followers.size === 0 && this.#followers.get(jobId) === followers) this.#followers.delete(jobId);
    };
  }

  /** When it resolves, all that was written before survives a power cut. */
  async synced(): Promise<void> {
    if (this.#path !== ":memory:") await syncPath(`${this.#path}-wal`);
  }

  close(): void {
    this.#database.close();
  }
}

function isList(values: Values): values is readonly SQLInputValue[] {
  return Array.isArray(values);
}
