// The seed ledgers of jobs that move along random signs: a file for each job, in the bits of a container's ledger, with
// the steps until its last checkpoint. It stays when the job is over, since any checkpoint can be made of it again.

import { randomUUID } from "node:crypto";
import { readFile, rm } from "node:fs/promises";
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
import { isPlanned, type JobRecord, type PlannedJob } from "./job-record.ts";
import { lineageOf } from "./publish-checkpoint.ts";

export class SeedLedgers {
  readonly #directory: string;
  readonly #targets: AdapterTargets;

  constructor(directory: string, targets: AdapterTargets) {
    this.#directory = directory;
    this.#targets = targets;
  }

  /** When it resolves, the checkpoint's ledger survives a kill and a power cut. Jobs that have none keep none. */
  async keep(job: PlannedJob, checkpoint: JobCheckpoint): Promise<void> {
    const ledger = job.parent === null ? ledgerOf(job.plan.spec, checkpoint) : null;
    if (ledger === null) return;
    await makeFolderDurably(this.#directory);
    const unfinished = join(this.#directory, `${randomUUID()}.partial`);
    try {
      await writeFileSynced(unfinished, ledger);
      await renameDurably(unfinished, this.#pathOf(job.id));
    } finally {
      await rm(unfinished, { force: true });
    }
  }

  /**
   * The job's adapter after so many steps, as a container that holds its ledger.
   * @throws CotenantError `ledger_not_found`
   */
  async container(job: JobRecord, step: number): Promise<Uint8Array> {
    const ledger = await this.#read(job.id);
    if (ledger === null || !isPlanned(job)) throw noLedger(job);
    return writeContainer({
      ...seedLedgerAfter(step, ledger, { spec: job.plan.spec, targets: this.#targets }),
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

  #pathOf(jobId: string): string {
    return join(this.#directory, `${jobId}.ledger`);
  }
}

function noLedger({ id }: JobRecord): CotenantError {
  return new CotenantError(
    "ledger_not_found",
    `${id} has no seed ledger: jobs of mezo and sparse-mezo that begin from the base have one; download the adapter instead`,
  );
}
