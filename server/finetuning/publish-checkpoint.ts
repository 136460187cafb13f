// What a job has trained becomes an adapter of its tenant: a container file with the numbers as they are, which the
// store takes like an upload. Knows no engine and no job's state.

import { randomUUID } from "node:crypto";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { encodeModule } from "../../adapters-store/container/encode-module.ts";
import type { Lineage } from "../../adapters-store/container/manifest.ts";
import { containerPieces, type EncodedModule } from "../../adapters-store/container/write-container.ts";
import { containerExtension } from "../../adapters-store/formats/cotenant.ts";
import type { StoredAdapter } from "../../adapters-store/store.ts";
import type { AdapterTargets, DecodedAdapter } from "../../kernels/adapter.ts";
import type { ServedAdapters } from "../served-adapters.ts";
import { checkpointIdOf, type PlannedJob } from "./job-record.ts";

export type PublisherOptions = {
  readonly adapters: Pick<ServedAdapters, "of">;
  readonly targets: AdapterTargets;
  readonly directory: string; // for files under way
};

export type Trained = {
  readonly adapter: DecodedAdapter;
  readonly step: number;
  readonly isResult: boolean; // the last step's
};

export class CheckpointPublisher {
  readonly #options: PublisherOptions;

  constructor(options: PublisherOptions) {
    this.#options = options;
  }

  /**
   * Once more is the same as once. Throws as TenantAdapters.add does: QuotaExceededError also where a checkpoint would
   * take the room that is reserved for results.
   */
  async publish(job: PlannedJob, { adapter, step, isResult }: Trained): Promise<StoredAdapter> {
    const { tenant, resultId, metadata } = job;
    const lineage = lineageOf(job, step);
    const { targets, adapters, directory } = this.#options;
    const modules = await encodeInTurns(adapter, targets);
    const identity = { baseFingerprint: job.baseFingerprint, lineage, metadata: {} };
    const container = await containerPieces({ ...identity, modules });
    const adapterId = isResult ? resultId : checkpointIdOf(resultId, step);
    const folder = join(directory, randomUUID());
    const name = `adapter${containerExtension}`;
    const path = join(folder, name);
    try {
      await mkdir(folder, { recursive: true });
      await writeFile(path, container);
      return await adapters.of(tenant).add({
        id: adapterId,
        source: { kind: "files", files: [{ name, path }] },
        lineage,
        ...(metadata && { metadata }),
        ...(isResult && { reservedBytes: job.resultBytes }),
      });
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }
}

/** Numbers are as they are, but encoding a sparse adapter's indices takes its time. */
async function encodeInTurns(adapter: DecodedAdapter, targets: AdapterTargets): Promise<EncodedModule[]> {
  const encoded: EncodedModule[] = [];
  for (const module of adapter.modules) {
    encoded.push(encodeModule(module, { codec: "f32" }, targets));
    await nextTurn();
  }
  return encoded;
}

export function lineageOf({ id, parent, plan, trainingFile }: PlannedJob, step: number): Lineage {
  return {
    operation: "train",
    parents: parent === null ? [] : [parent.version],
    parameters: { job: id, step, method: plan.spec.method.name, training_file: trainingFile },
  };
}
