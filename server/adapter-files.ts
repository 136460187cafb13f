// A stored version as files to hand out, in a format that the caller chooses: those that were uploaded where they are
// of that format, else made anew in a thread of the pool. Knows no HTTP and no tenants.

import { randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import type { DecodePool } from "../adapters-store/decode-pool.ts";
import type { AdapterStore, StoredFile, StoredVersion } from "../adapters-store/store.ts";
import type { ServedModel } from "../scheduler/protocol.ts";

export const exportFormats = ["peft", "cotenant"] as const;
export type ExportFormat = (typeof exportFormats)[number];

export type ExportedFile = {
  readonly name: string;
  readonly sizeBytes: number;
  readonly open: () => Promise<Readable>;
};

export type WantedFiles = {
  readonly format: ExportFormat;
  /** Whether the files as they came may be handed out: of several who uploaded the same weights, one's were kept. */
  readonly asUploaded: boolean;
};

/** Disposing of it removes what was made for it. */
export type ExportedFiles = AsyncDisposable & { readonly files: readonly ExportedFile[] };

export type AdapterFilesOptions = {
  readonly store: Pick<AdapterStore, "decode" | "files">;
  readonly pool: Pick<DecodePool, "export">;
  readonly model: Pick<ServedModel, "family" | "fingerprint" | "targets">;
  readonly baseName: string;
  readonly scratchDirectory: string;
};

// The one family whose checkpoints hold q, k, v and gate, up as one tensor each.
const fusedFamily = "phi3";

export class AdapterFiles {
  readonly #options: AdapterFilesOptions;

  constructor(options: AdapterFilesOptions) {
    this.#options = options;
  }

  /** Throws AdapterError `adapter_export_unsupported`, `adapter_version_unknown`, and as the store and the pool do. */
  async open(version: StoredVersion, wanted: WantedFiles, signal: AbortSignal): Promise<ExportedFiles> {
    const { store, scratchDirectory } = this.#options;
    const { format, asUploaded } = wanted;
    if (version.format === format && asUploaded) {
      return { files: store.files(version.version).map(whole), [Symbol.asyncDispose]: async () => {} };
    }
    const directory = join(scratchDirectory, randomUUID());
    const remove = () => rm(directory, { recursive: true, force: true });
    try {
      await mkdir(directory);
      const fileNames = await this.#export(version, { format, directory, signal });
      const files = await Promise.all(fileNames.map((name) => fileIn(directory, name)));
      return { files, [Symbol.asyncDispose]: remove };
    } catch (error) {
      await remove();
      throw error;
    }
  }

  async #export(
    { version, metadata }: StoredVersion,
    { format, directory, signal }: { format: ExportFormat; directory: string; signal: AbortSignal },
  ): Promise<readonly string[]> {
    const { store, pool, model, baseName } = this.#options;
    const { family, fingerprint, targets } = model;
    const adapter = await store.decode(version);
    const job =
      format === "peft"
        ? { format, baseModelName: baseName, fusedProjections: family === fusedFamily, targets }
        : { format, base: { fingerprint, targets }, lineage: null, metadata };
    return (await pool.export({ ...job, adapter, directory }, signal)).fileNames;
  }
}

function whole({ name, sizeBytes, open }: StoredFile): ExportedFile {
  return { name, sizeBytes, open: () => open() };
}

async function fileIn(directory: string, name: string): Promise<ExportedFile> {
  const path = join(directory, name);
  return { name, sizeBytes: (await stat(path)).size, open: async () => createReadStream(path) };
}
