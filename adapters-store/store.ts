// Adapters on disk: versions that never change and names that point at them. Validates by decoding before it
// publishes, so that what is listed works on this base. Knows no requests and holds no decoded adapter.
//
//   versions/<version>/   the adapter's files and manifest.json; appears by one rename
//   names/<hash of id>    which version an id means; replaced by one rename
//   quarantine/           uploads that are not checked yet; emptied when the store opens
//
// Superseded versions stay: requests in flight use them, and collecting them is not the store's decision.
// One process at a time may open a directory.

import { createHash, randomUUID } from "node:crypto";
import { constants } from "node:fs";
import { copyFile, mkdir, readdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { AdapterTargets, DecodedAdapter } from "../kernels/adapter.ts";
import { AdapterError } from "../kernels/errors.ts";
import { checkAdapterId } from "./adapter-id.ts";
import { type AdapterSource, claimSource, listFiles } from "./adapter-source.ts";
import type { AdapterSummary } from "./adapter-summary.ts";
import { DecodePool } from "./decode-pool.ts";
import { renameDurably, syncPath, writeFileSynced } from "./durable-files.ts";
import { type AdapterFormatName, type ClaimedFiles, claimFiles, findFormat } from "./formats/index.ts";

export type { AdapterSource, NamedFile } from "./adapter-source.ts";

export type AdapterStoreOptions = {
  readonly directory: string;
  readonly targets: AdapterTargets;
  readonly baseFingerprint: string;
  readonly pool?: DecodePool; // default: one of its own
};

export type AdapterVersion = {
  readonly id: string;
  readonly version: string; // hash of content and base
  readonly format: AdapterFormatName;
  readonly summary: AdapterSummary;
  readonly filesIgnored: readonly string[]; // given, but no part of the format
  readonly createdAtMs: number; // Unix time
  readonly directory: string;
};

type Manifest = Omit<AdapterVersion, "id" | "directory"> & {
  readonly baseFingerprint: string;
  readonly fileNames: readonly string[];
};
type Alias = { readonly id: string; readonly version: string };

/** Throws AdapterError `adapter_store_damaged`. */
export async function openAdapterStore(options: AdapterStoreOptions): Promise<AdapterStore> {
  const folders = foldersOf(options.directory);
  await rm(folders.quarantine, { recursive: true, force: true });
  for (const folder of Object.values(folders)) await mkdir(folder, { recursive: true });
  await syncPath(options.directory);
  const store = new AdapterStore(options);
  await store.load();
  return store;
}

export class AdapterStore {
  readonly #folders: Folders;
  readonly #targets: AdapterTargets;
  readonly #baseFingerprint: string;
  readonly #pool: DecodePool;
  readonly #ownsPool: boolean;
  readonly #byId = new Map<string, AdapterVersion>();
  readonly #byVersion = new Map<string, AdapterVersion>(); // superseded ones included
  readonly #inPlace = new Set<string>(); // ids
  readonly #ofOtherBases: Alias[] = [];
  #publishing: Promise<unknown> = Promise.resolve(); // publications take turns

  /** Use `openAdapterStore`. */
  constructor({ directory, targets, baseFingerprint, pool }: AdapterStoreOptions) {
    this.#folders = foldersOf(directory);
    this.#targets = targets;
    this.#baseFingerprint = baseFingerprint;
    this.#pool = pool ?? new DecodePool();
    this.#ownsPool = pool === undefined;
  }

  /** Reads what was published; called once, by `openAdapterStore`. */
  async load(): Promise<void> {
    for (const fileName of await readdir(this.#folders.names)) {
      const path = join(this.#folders.names, fileName);
      try {
        const alias: Alias = JSON.parse(await readFile(path, "utf8"));
        const manifest = await this.#readManifest(alias.version);
        if (manifest.baseFingerprint === this.#baseFingerprint)
          this.#remember(this.#stored(alias.id, manifest));
        else this.#ofOtherBases.push(alias);
      } catch (cause) {
        throw new AdapterError(
          "adapter_store_damaged",
          `${path} or the version that it names cannot be read; restore them from a backup, or delete that file to forget the adapter`,
          { cause },
        );
      }
    }
  }

  list(): readonly AdapterVersion[] {
    return [...this.#byId.values()];
  }

  /** Names whose adapters were made for another base than the one that is served: kept, but not listed. */
  listOfOtherBases(): readonly Alias[] {
    return this.#ofOtherBases;
  }

  get(id: string): AdapterVersion | undefined {
    return this.#byId.get(id);
  }

  /**
   * Copies, checks and publishes an adapter; when it resolves, the adapter survives kill -9. The same content
   * under the same id changes nothing; other content moves the id. The source stays the caller's.
   * Throws AdapterError: `adapter_id_invalid`, `adapter_id_read_only`, and what its format refuses.
   */
  async add(given: { readonly id: string; readonly source: AdapterSource }): Promise<AdapterVersion> {
    const { id } = given;
    checkAdapterId(id);
    this.#refuseInPlace(id);
    const { claimed, files, filesIgnored } = await claimSource(given.source);
    const directory = join(this.#folders.quarantine, randomUUID());
    await mkdir(directory);
    try {
      for (const { name, path } of files) {
        await copyFile(path, join(directory, name), constants.COPYFILE_FICLONE);
        await syncPath(join(directory, name));
      }
      const { summary, version } = await this.#pool.inspect(this.#job(directory, claimed));
      const manifest: Manifest = {
        version,
        baseFingerprint: this.#baseFingerprint,
        format: claimed.format,
        fileNames: claimed.fileNames,
        filesIgnored,
        summary,
        createdAtMs: Date.now(),
      };
      await writeFileSynced(join(directory, "manifest.json"), JSON.stringify(manifest, null, 2));
      await syncPath(directory);
      return await this.#inTurn(() => this.#publish(id, directory, manifest));
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  }

  /**
   * Serves every subdirectory of `directory` that holds an adapter, under the subdirectory's name, from where
   * it lies; nothing is copied or written. Throws the first bad one's AdapterError, naming it.
   */
  async addDirectoriesInPlace(directory: string): Promise<readonly AdapterVersion[]> {
    const names = (await listFiles(directory)).sort();
    if (findFormat(names) !== null) {
      throw new AdapterError(
        "adapters_directory_is_adapter",
        `${directory} is an adapter itself; give the directory that holds it`,
      );
    }
    const added: AdapterVersion[] = [];
    for (const id of names) {
      const path = join(directory, id);
      if ((await stat(path)).isDirectory()) added.push(...(await this.#addInPlace(id, path)));
    }
    return added;
  }

  /** Modules of a version that was listed once. Throws AdapterError `adapter_unknown` or `adapter_changed`. */
  async decode(version: string): Promise<DecodedAdapter> {
    const known = this.#byVersion.get(version);
    if (known === undefined) {
      throw new AdapterError("adapter_unknown", `there is no adapter version ${version}; upload it again`);
    }
    const { directory } = known;
    const result = await this.#pool.decode(this.#job(directory, claimFiles(await listFiles(directory))));
    if (result.version === version) return result.adapter;
    throw new AdapterError(
      "adapter_changed",
      `${directory} no longer holds version ${version}; a version never changes: add the new content as an adapter`,
    );
  }

  async close(): Promise<void> {
    if (this.#ownsPool) await this.#pool.close();
    await this.#publishing;
  }

  /** Empty where the directory holds no adapter. */
  async #addInPlace(id: string, path: string): Promise<AdapterVersion[]> {
    try {
      const fileNames = await listFiles(path);
      const claimed = findFormat(fileNames);
      if (claimed === null) return [];
      checkAdapterId(id);
      const { summary, version } = await this.#pool.inspect(this.#job(path, claimed));
      const stored = this.#byId.get(id);
      if (stored !== undefined && stored.version !== version) {
        throw new AdapterError(
          "adapter_id_taken",
          "an uploaded adapter has this id and other content; rename one",
        );
      }
      const filesIgnored = fileNames.filter((name) => !claimed.fileNames.includes(name));
      const { format } = claimed;
      const added = { id, version, format, summary, filesIgnored, createdAtMs: Date.now(), directory: path };
      this.#inPlace.add(id);
      this.#remember(added);
      return [added];
    } catch (error) {
      if (!(error instanceof AdapterError)) throw error;
      throw new AdapterError(error.code, `${path}: ${error.message}`, { cause: error });
    }
  }

  async #publish(id: string, quarantined: string, manifest: Manifest): Promise<AdapterVersion> {
    this.#refuseInPlace(id); // it may have become one meanwhile
    const { version } = manifest;
    const current = this.#byId.get(id);
    if (current?.version === version) return current;
    const destination = join(this.#folders.versions, version);
    if (!(await exists(destination))) await renameDurably(quarantined, destination);
    const aliasPath = join(this.#folders.quarantine, randomUUID());
    await writeFileSynced(aliasPath, JSON.stringify({ id, version } satisfies Alias));
    await renameDurably(aliasPath, join(this.#folders.names, aliasName(this.#baseFingerprint, id)));
    const published = this.#stored(id, await this.#readManifest(version));
    this.#remember(published);
    return published;
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#publishing.then(work);
    this.#publishing = turn.catch(() => {}); // its caller has the error
    return turn;
  }

  #refuseInPlace(id: string): void {
    if (!this.#inPlace.has(id)) return;
    const { directory } = this.#byId.get(id)!;
    throw new AdapterError(
      "adapter_id_read_only",
      `${id} is served from ${directory} and cannot be replaced; choose another id`,
    );
  }

  async #readManifest(version: string): Promise<Manifest> {
    return JSON.parse(await readFile(join(this.#folders.versions, version, "manifest.json"), "utf8"));
  }

  #stored(id: string, manifest: Manifest): AdapterVersion {
    const { version, format, summary, filesIgnored, createdAtMs } = manifest;
    const directory = join(this.#folders.versions, version);
    return { id, version, format, summary, filesIgnored, createdAtMs, directory };
  }

  #remember(adapter: AdapterVersion): void {
    this.#byId.set(adapter.id, adapter);
    this.#byVersion.set(adapter.version, adapter);
  }

  #job(directory: string, files: ClaimedFiles) {
    return { directory, files, targets: this.#targets, baseFingerprint: this.#baseFingerprint };
  }
}

type Folders = { readonly versions: string; readonly names: string; readonly quarantine: string };

function foldersOf(directory: string): Folders {
  return {
    versions: join(directory, "versions"),
    names: join(directory, "names"),
    quarantine: join(directory, "quarantine"),
  };
}

/** Each base has names of its own. Ids hold slashes and may differ in case alone, which file names cannot everywhere; a hash always can. */
function aliasName(baseFingerprint: string, id: string): string {
  return createHash("sha256").update(`${baseFingerprint} ${id}`).digest("hex");
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined;
}
