// New adapters from those of a store: compressed, merged, weighted and summed. What lasts comes out as a container
// file, which the store takes like any upload. Knows no names and no engine.

import { randomUUID } from "node:crypto";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { DecodedAdapter } from "../kernels/adapter.ts";
import { AdapterError } from "../kernels/errors.ts";
import { sourceBytes } from "./adapter-source.ts";
import type { CompressionOptions, PackedAdapter } from "./compress/compress.ts";
import type { BaseIdentity } from "./container/read-container.ts";
import type { DecodeResult } from "./decode-adapter.ts";
import type { WeightedAdapter } from "./decode-jobs.ts";
import type { DecodePool } from "./decode-pool.ts";
import { containerExtension } from "./formats/cotenant.ts";
import { concurrencyLimit, type Limited } from "./residency/concurrency-limit.ts";
import type { AdapterSource, AdapterStore } from "./store.ts";
import { StoreIntake } from "./store-intake.ts";

export type DeriverOptions = {
  readonly store: Pick<AdapterStore, "decode">;
  readonly pool: DecodePool; // the caller closes it
  readonly base: BaseIdentity;
  readonly directory: string; // for files under way
};

/** A version with a weight for each layer, and one for what belongs to no layer. */
export type WeightedVersion = Omit<WeightedAdapter, "adapter"> & { readonly version: string };

/** A version, or what was uploaded to become one. */
export type CompressedFrom = { readonly version: string } | { readonly upload: AdapterSource };

/** A container that is in no store yet; removed when it is disposed of. */
export type DerivedFile = AsyncDisposable & {
  readonly source: AdapterSource;
  readonly sizeBytes: number;
  /** The modules that a reader of the file gets. */
  decode(): Promise<DecodeResult>;
};

export type CompressedFile = DerivedFile & {
  readonly packed: Omit<PackedAdapter, "container">;
  readonly sizeBytesBefore: number | null; // of the files that were uploaded; null where a version was given
};

const maximumWaiting = 16;

export class AdapterDeriver {
  readonly #options: DeriverOptions;
  readonly #intake: StoreIntake;
  // One at a time: the pool's other threads go on loading adapters that requests wait for.
  readonly #limited: Limited = concurrencyLimit(1);
  #waiting = 0;

  constructor(options: DeriverOptions) {
    const { pool, base, directory } = options;
    this.#options = options;
    this.#intake = new StoreIntake({
      quarantine: directory,
      targets: base.targets,
      baseFingerprint: base.fingerprint,
      pool,
    });
  }

  /** The weighted sum. Throws AdapterError `adapters_not_composable`, and as `store.decode` does. */
  async compose(parts: readonly WeightedVersion[]): Promise<DecodedAdapter> {
    const weighted = await Promise.all(parts.map((part) => this.#decode(part)));
    return (await this.#options.pool.compose({ parts: weighted })).adapter;
  }

  /** Throws AdapterError `adapter_jobs_busy`, and what decoding and `compress` throw. */
  compress(from: CompressedFrom, options: CompressionOptions, signal: AbortSignal): Promise<CompressedFile> {
    return this.#inTurn(signal, async () => {
      const { adapter, parents, sizeBytesBefore } = await this.#open(from);
      const { base, pool } = this.#options;
      const source = { adapter, base, parents, metadata: {} };
      const { container, ...packed } = await pool.compress({ source, options }, signal);
      return { ...(await this.#write(container)), packed, sizeBytesBefore };
    });
  }

  async #decode({ version, ...weights }: WeightedVersion): Promise<WeightedAdapter> {
    return { ...weights, adapter: await this.#options.store.decode(version) };
  }

  async #open(from: CompressedFrom) {
    if ("version" in from) {
      const adapter = await this.#options.store.decode(from.version);
      return { adapter, parents: [from.version], sizeBytesBefore: null };
    }
    await using staged = await this.#intake.stage(from.upload);
    const { format, files } = staged.manifest;
    const fileNames = files.map(({ name }) => name);
    const job = this.#intake.job(staged.directory, { format, fileNames });
    const { adapter, version } = await this.#options.pool.decode(job);
    return { adapter, parents: [version], sizeBytesBefore: await sourceBytes(from.upload) };
  }

  async #write(container: Uint8Array): Promise<DerivedFile> {
    const directory = join(this.#options.directory, randomUUID());
    const name = `adapter${containerExtension}`;
    const path = join(directory, name);
    const remove = () => rm(directory, { recursive: true, force: true });
    try {
      await mkdir(directory, { recursive: true });
      await writeFile(path, container);
    } catch (error) {
      await remove();
      throw error;
    }
    return {
      source: { kind: "files", files: [{ name, path }] },
      sizeBytes: container.length,
      decode: () =>
        this.#options.pool.decode(this.#intake.job(directory, { format: "cotenant", fileNames: [name] })),
      [Symbol.asyncDispose]: remove,
    };
  }

  async #inTurn<Result>(signal: AbortSignal, work: () => Promise<Result>): Promise<Result> {
    if (this.#waiting >= maximumWaiting) {
      throw new AdapterError(
        "adapter_jobs_busy",
        `${this.#waiting} adapters are being compressed or merged, or wait for it; send the request again later`,
      );
    }
    this.#waiting++;
    try {
      return await this.#limited(async () => {
        signal.throwIfAborted();
        return work();
      });
    } finally {
      this.#waiting--;
    }
  }
}
