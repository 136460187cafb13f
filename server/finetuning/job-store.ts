// Finetuning jobs, their events, steps and checkpoints in one SQLite file. What `save` has returned from survives a
// kill, and a power cut once `synced` has; steps are in memory for up to half a second, and a resumed job takes those
// that were lost again. Jobs of a base that is not served are kept and not listed, as adapters are. What an ended job
// told of its steps goes after thirty days.

import type { Logger } from "../logger.ts";
import { JobClaims } from "./job-claims.ts";
import { JobDatabase } from "./job-database.ts";
import { JobHistory } from "./job-history.ts";
import {
  isOver,
  type JobCheckpointRow,
  type JobNews,
  type JobNewsEntry,
  type JobRecord,
} from "./job-record.ts";
import { openJobTables, parseCheckpoint, parseNews, parseRecord } from "./job-tables.ts";

export type JobStoreOptions = {
  readonly path: string;
  readonly baseFingerprint: string;
  readonly logger: Logger;
  readonly flushMs?: number;
  readonly historyMs?: number; // that an ended job's steps are kept
};

export type JobSaving = {
  readonly news?: readonly JobNews[];
  readonly checkpoint?: JobCheckpointRow;
};

/** Newest first. `after` is the last one of the page before. */
export type Paging<Cursor> = { readonly after: Cursor | null; readonly limit: number };
export type Page<Item> = { readonly items: readonly Item[]; readonly hasMore: boolean };

/** Throws CotenantError `jobs_unusable`. */
export function openJobStore(options: JobStoreOptions): JobStore {
  return new JobStore(new JobDatabase(openJobTables(options.path), options.path), options);
}

const keptHistoryMs = 30 * 24 * 3600 * 1000;

export class JobStore {
  readonly history: JobHistory;
  readonly claims: JobClaims;
  readonly #database: JobDatabase;
  readonly #base: string;
  readonly #logger: Logger;
  readonly #historyMs: number;
  readonly #timer: NodeJS.Timeout;
  readonly #newsCounts = new Map<string, number>(); // by job, those that are pending among them

  /** Use `openJobStore`. */
  constructor(database: JobDatabase, options: JobStoreOptions) {
    const { baseFingerprint, logger, flushMs = 500, historyMs = keptHistoryMs } = options;
    this.#database = database;
    this.#base = baseFingerprint;
    this.#logger = logger;
    this.#historyMs = historyMs;
    this.history = new JobHistory(database);
    this.claims = new JobClaims(database);
    this.#timer = setInterval(() => this.#tend(), flushMs).unref();
  }

  /** Writes a job as it is now, with what else happened to it: all or nothing. */
  save(job: JobRecord, { news = [], checkpoint }: JobSaving = {}): void {
    const { id } = job;
    const newsBefore = this.#newsCount(id);
    try {
      this.#database.writeAtOnce(() => {
        this.#deferRecord(job);
        if (checkpoint !== undefined) {
          const values = [id, checkpoint.step, JSON.stringify(checkpoint)];
          this.#database.defer(id, "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?)", values);
        }
        for (const one of news) this.addNews(id, one);
      });
    } catch (error) {
      this.#newsCounts.set(id, newsBefore);
      throw error;
    }
    if (isOver(job)) this.#newsCounts.delete(id);
  }

  addNews(jobId: string, news: JobNews): void {
    const number = this.#newsCount(jobId) + 1;
    this.#newsCounts.set(jobId, number);
    const values = [jobId, number, Date.now(), JSON.stringify(news)];
    this.#database.defer(jobId, "INSERT INTO events VALUES (?, ?, ?, ?)", values);
  }

  /** Of any tenant; undefined for a job of another base. */
  get(id: string): JobRecord | undefined {
    const row = this.#prepared("SELECT record FROM jobs WHERE id = ? AND base = ?").get(id, this.#base);
    return row && parseRecord(row);
  }

  /** Of a tenant, those that have all of the tags. */
  list(tenantId: string, { after, limit }: Paging<string>, tags: readonly string[] = []): Page<JobRecord> {
    const from = tags.length === 0 ? "jobs AS own" : "tags AS own CROSS JOIN jobs ON jobs.place = own.place";
    const tagged = tags.map((_, index) => (index === 0 ? "AND own.tag = ?" : hasTag)).join(" ");
    const sql = `
      SELECT record FROM ${from} WHERE own.tenant = ? AND own.base = ? AND own.place < ? ${tagged}
      ORDER BY own.place DESC LIMIT ?`;
    const place = (after !== null && this.#placeOf(after)) || Number.MAX_SAFE_INTEGER;
    const rows = this.#prepared(sql).all(tenantId, this.#base, place, ...tags, limit + 1);
    return pageOf(rows.map(parseRecord), limit);
  }

  /** Of all tenants, oldest first. */
  unfinished(): JobRecord[] {
    const sql = "SELECT record FROM jobs WHERE is_over = 0 AND base = ? ORDER BY place";
    return this.#prepared(sql).all(this.#base).map(parseRecord);
  }

  /** By status. */
  counts(): ReadonlyMap<string, number> {
    const sql = "SELECT status, count(*) AS jobs FROM jobs WHERE base = ? GROUP BY status";
    const rows = this.#prepared(sql).all(this.#base);
    return new Map(rows.map(({ status, jobs }) => [String(status), Number(jobs)]));
  }

  news(jobId: string, { after, limit }: Paging<number>): Page<JobNewsEntry> {
    const sql = "SELECT * FROM events WHERE job = ? AND number < ? ORDER BY number DESC LIMIT ?";
    const rows = this.#prepared(sql).all(jobId, after ?? Number.MAX_SAFE_INTEGER, limit + 1);
    return pageOf(rows.map(parseNews), limit);
  }

  /** Oldest first: those behind the `after`th. */
  newsSince(jobId: string, after: number, limit: number): JobNewsEntry[] {
    const sql = "SELECT * FROM events WHERE job = ? AND number > ? ORDER BY number LIMIT ?";
    return this.#prepared(sql).all(jobId, after, limit).map(parseNews);
  }

  checkpoints(jobId: string, { after, limit }: Paging<number>): Page<JobCheckpointRow> {
    const sql = "SELECT row FROM checkpoints WHERE job = ? AND step < ? ORDER BY step DESC LIMIT ?";
    const rows = this.#prepared(sql).all(jobId, after ?? Number.MAX_SAFE_INTEGER, limit + 1);
    return pageOf(rows.map(parseCheckpoint), limit);
  }

  checkpoint(jobId: string, step: number): JobCheckpointRow | undefined {
    const row = this.#prepared("SELECT row FROM checkpoints WHERE job = ? AND step = ?").get(jobId, step);
    return row && parseCheckpoint(row);
  }

  /** Calls back when there may be something new of a job, until what it returns is called. */
  follow(jobId: string, onChange: () => void): () => void {
    return this.#database.follow(jobId, onChange);
  }

  /** Writes what is pending; on failure it stays pending. */
  flush(): void {
    this.#database.flush();
  }

  /** When it resolves, all that was saved before survives a power cut. */
  synced(): Promise<void> {
    return this.#database.synced();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#flushOrLog();
    this.#database.close();
  }

  #deferRecord(job: JobRecord): void {
    const { id, tenant, baseFingerprint: base, status, finishedAtMs } = job;
    const historyUntilMs = finishedAtMs && finishedAtMs + this.#historyMs;
    const isNew = this.#placeOf(id) === undefined;
    this.#database.defer(
      id,
      `INSERT INTO jobs (id, tenant, base, status, is_over, history_until_ms, record) VALUES (?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (id) DO UPDATE SET status = excluded.status, is_over = excluded.is_over,
         history_until_ms = excluded.history_until_ms, record = excluded.record`,
      [id, tenant.id, base, status, Number(isOver(job)), historyUntilMs, JSON.stringify(job)],
    );
    if (!isNew) return; // its metadata never changes
    const sql = "INSERT INTO tags SELECT tenant, base, ?, place FROM jobs WHERE id = ?";
    for (const tag of tagsOf(job.metadata)) this.#database.defer(id, sql, [tag, id]);
  }

  #flushOrLog(): void {
    try {
      this.flush();
    } catch (error) {
      this.#logger.error({ err: error }, "finetuning steps were not written; they are tried again");
    }
  }

  #tend(): void {
    this.#flushOrLog();
    try {
      this.history.expireSome(Date.now());
    } catch (error) {
      this.#logger.error({ err: error }, "old finetuning steps were not removed; it is tried again");
    }
  }

  #newsCount(jobId: string): number {
    const known = this.#newsCounts.get(jobId);
    if (known !== undefined) return known;
    const row = this.#prepared("SELECT max(number) AS number FROM events WHERE job = ?").get(jobId)!;
    return Number(row.number ?? 0);
  }

  #placeOf(jobId: string): number | undefined {
    const row = this.#prepared("SELECT place FROM jobs WHERE id = ?").get(jobId);
    return row && Number(row.place);
  }

  #prepared(sql: string) {
    return this.#database.prepared(sql);
  }
}

const hasTag =
  "AND EXISTS (SELECT 1 FROM tags WHERE tenant = own.tenant AND base = own.base AND tag = ? AND place = own.place)";

/** What jobs are found by: each pair of their metadata, or that they have none. */
export function tagsOf(metadata: Readonly<Record<string, string>> | null): string[] {
  return metadata === null ? ["null"] : Object.entries(metadata).map((pair) => JSON.stringify(pair));
}

function pageOf<Item>(rows: readonly Item[], limit: number): Page<Item> {
  return { items: rows.slice(0, limit), hasMore: rows.length > limit };
}
