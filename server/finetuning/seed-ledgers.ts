// The seed ledgers of jobs that move along random signs: a file for each job, in the bits of a container's ledger, with
// the steps until its last checkpoint. It stays when the job is over, since any checkpoint can be made of it again, and
// counts among its tenant's stored bytes until it is removed.

import { readdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { writeContainer } from "../../adapters-store/container/write-container.ts";
import {
  hasErrorCode,
  makeFolderDurably,
  renameDurably,
  writeFileSynced,
} from "../../adapters-store/durable-files.ts";
import type { JobCheckpoint } from "../../finetuning/job.ts";
import { ledgerOf, seedLedgerAfter } from "../../finetuning/methods/seed-ledger-of.ts";
import type { AdapterTargets } from "../../kernels/adapter.ts";
import { CotenantError } from "../../kernels/errors.ts";
import { isOver, isPlanned, type JobRecord, type PlannedJob } from "./job-record.ts";
import { lineageOf } from "./publish-checkpoint.ts";

export type SeedLedgersOptions = {
  readonly targets: AdapterTargets;
  /** The tenant of a job, of any base; null where nobody knows the job. */
  readonly ownerOf: (jobId: string) => string | null;
};

const extension = ".ledger";
const partialExtension = ".partial";

export class SeedLedgers {
  readonly #directory: string;
  readonly #options: SeedLedgersOptions;
  readonly #sizes = new Map<string, Map<string, number>>(); // bytes by owner and job

  /** Removes what a killed server left half written. */
  static async open(directory: string, options: SeedLedgersOptions): Promise<SeedLedgers> {
    const opened = new SeedLedgers(directory, options);
    await makeFolderDurably(directory);
    for (const name of await readdir(directory)) {
      const path = join(directory, name);
      if (name.endsWith(partialExtension)) await rm(path);
      if (!name.endsWith(extension)) continue;
      const jobId = name.slice(0, -extension.length);
      const owner = options.ownerOf(jobId);
      if (owner !== null) opened.#sizesOf(owner).set(jobId, (await stat(path)).size);
    }
    return opened;
  }

  /** Use `open`. */
  constructor(directory: string, options: SeedLedgersOptions) {
    this.#directory = directory;
    this.#options = options;
  }

  storedBytes(owner: string): number {
    let bytes = 0;
    for (const size of this.#sizes.get(owner)?.values() ?? []) bytes += size;
    return bytes;
  }

  /**
   * When it resolves, the checkpoint's ledger survives a kill and a power cut. Jobs that have none keep none. A longer
   * one, which a job that goes on from further back left, begins with the same steps and stays: it has further checkpoints.
   */
  async keep(job: PlannedJob, checkpoint: JobCheckpoint): Promise<void> {
    const ledger = job.parent === null ? ledgerOf(job.plan.spec, checkpoint) : null;
    if (ledger === null) return;
    const sizes = this.#sizesOf(job.tenant.id);
    if (ledger.length < (sizes.get(job.id) ?? 0)) return;
    const path = this.#pathOf(job.id);
    const unfinished = `${path}${partialExtension}`; // a job has one checkpoint at a time
    try {
      await writeFileSynced(unfinished, ledger);
      await renameDurably(unfinished, path);
    } finally {
      await rm(unfinished, { force: true });
    }
    sizes.set(job.id, ledger.length);
  }

  /** Checkpoints stay. Throws CotenantError `ledger_not_found`, and `job_state` for a job that may add to it. */
  async remove(job: JobRecord): Promise<void> {
    if (!this.#sizesOf(job.tenant.id).has(job.id)) throw noLedger(job);
    if (!isOver(job)) {
      const problem = `${job.id} is ${job.status} and may add to its ledger; wait for its end or cancel it first`;
      throw new CotenantError("job_state", problem);
    }
    await rm(this.#pathOf(job.id), { force: true });
    this.#sizesOf(job.tenant.id).delete(job.id);
  }

  /**
   * The job's adapter after so many steps, as a container that holds its ledger.
   * @throws CotenantError `ledger_not_found`
   */
  async container(job: JobRecord, step: number): Promise<Uint8Array> {
    const ledger = await this.#read(job.id);
    if (ledger === null || !isPlanned(job)) throw noLedger(job);
    return writeContainer({
      ...seedLedgerAfter(step, ledger, { spec: job.plan.spec, targets: this.#options.targets }),
      baseFingerprint: job.baseFingerprint,
      lineage: lineageOf(job, step),
      metadata: {},
    });
  }

  async #read(jobId: string): Promise<Uint8Array | null> {
    try {
      return await readFile(this.#pathOf(jobId));
    } catch (error) {
      if (hasErrorCode(error, "ENOENT")) return null;
      throw error;
    }
  }

  #sizesOf(owner: string): Map<string, number> {
    const sizes = this.#sizes.get(owner) ?? new Map<string, number>();
    this.#sizes.set(owner, sizes);
    return sizes;
  }

  #pathOf(jobId: string): string {
    return join(this.#directory, `${jobId}${extension}`);
  }
}

function noLedger({ id }: JobRecord): CotenantError {
  return new CotenantError(
    "ledger_not_found",
    `${id} has no seed ledger: jobs of mezo and sparse-mezo that begin from the base have one; download the adapter instead`,
  );
}
