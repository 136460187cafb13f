// The files of versions: written once, the manifest last, which makes a version whole; removed when nobody names
// or uses it any more. Knows no names.

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import type { GetOptions, LocalFolder, StorageBackend, StoredObject } from "./backends/backend.ts";
import { damaged } from "./store-catalog.ts";
import { unknownVersion } from "./store-changes.ts";
import { mapConcurrently } from "./store-concurrency.ts";
import {
  manifestName,
  parseManifest,
  type VersionManifest,
  versionPrefix,
  versionsPrefix,
} from "./store-records.ts";

/** `directory` is where a version lies that is served in place; the store has no files of it. */
export type KnownVersion = Pick<VersionManifest, "format" | "files" | "summary"> & {
  readonly uploadedBy: string | null; // null where it is served in place
  readonly directory: string | null;
};

export type StoredFile = {
  readonly name: string;
  readonly sizeBytes: number;
  readonly open: (range?: GetOptions["range"]) => Promise<Readable>;
};

export type VersionsToLoad = {
  readonly named: ReadonlySet<string>; // of the served base
  readonly held: ReadonlySet<string>; // of any
  readonly isKept: (version: string) => boolean;
};

type Objects = Map<string, StoredObject>; // by file name

const requestsAtOnce = 16;

export class StoreVersions {
  readonly #backend: StorageBackend;
  readonly #stored = new Map<string, KnownVersion>();
  readonly #inPlace = new Map<string, KnownVersion>();

  constructor(backend: StorageBackend) {
    this.#backend = backend;
  }

  /**
   * Reads the manifests of what is named or held and removes what is not kept: nobody can use it after a restart, and an
   * interrupted publication or removal may have left half of it. Throws AdapterError `adapter_store_damaged` for what
   * is named.
   */
  async load({ named, held, isKept }: VersionsToLoad): Promise<void> {
    const found = new Map<string, Objects>();
    for await (const object of this.#backend.list(versionsPrefix)) {
      const [version = "", name = ""] = object.key.slice(versionsPrefix.length).split("/");
      const objects = found.get(version) ?? found.set(version, new Map()).get(version)!;
      objects.set(name, object);
    }
    const there = [...held].filter((version) => found.has(version)); // in place, or of another base, it is not
    await mapConcurrently([...new Set([...named, ...there])], requestsAtOnce, async (version) => {
      try {
        this.#stored.set(version, await this.#readWhole(version, found.get(version) ?? new Map()));
      } catch (error) {
        if (named.has(version)) throw error; // else whoever holds it hears that it is unknown
      }
    });
    const leftovers = [...found].filter(([version]) => !isKept(version));
    const keys = leftovers.flatMap(([, objects]) => [...objects.values()].map(({ key }) => key));
    await mapConcurrently(keys, requestsAtOnce, (key) => this.#backend.delete(key));
  }

  get(version: string): KnownVersion | undefined {
    return this.#stored.get(version) ?? this.#inPlace.get(version);
  }

  isStored(version: string): boolean {
    return this.#stored.has(version);
  }

  mount(version: string, known: KnownVersion): void {
    this.#inPlace.set(version, known);
  }

  /** Moves the manifest's files out of `directory`; durable when it resolves. Leaves nothing where it throws. */
  async publish(directory: string, manifest: VersionManifest): Promise<void> {
    const prefix = versionPrefix(manifest.version);
    try {
      for (const { name } of manifest.files) {
        await this.#backend.put(prefix + name, { path: join(directory, name) });
      }
      await this.#backend.put(prefix + manifestName, Buffer.from(JSON.stringify(manifest)));
    } catch (error) {
      // Or a disk that is full would stay so until the next start, which removes what cannot be removed now.
      await this.#removeFiles(manifest.version, manifest.files).catch(() => {});
      throw error;
    }
    const { format, files, summary, uploadedBy } = manifest;
    this.#stored.set(manifest.version, { format, files, summary, uploadedBy, directory: null });
  }

  async remove(version: string): Promise<void> {
    const known = this.#stored.get(version);
    if (known === undefined) return;
    this.#stored.delete(version);
    await this.#removeFiles(version, known.files);
  }

  /** Throws AdapterError `adapter_version_unknown`, and the backend's StorageError. */
  async openFolder(version: string, scratch: string): Promise<LocalFolder> {
    const { files, directory } = this.#require(version);
    if (directory !== null) return { directory, [Symbol.asyncDispose]: async () => {} };
    const names = files.map(({ name }) => name);
    return this.#backend.openFolder(versionPrefix(version), names, scratch);
  }

  /** Throws AdapterError `adapter_version_unknown`; opening throws the backend's StorageError. */
  files(version: string): StoredFile[] {
    const { files, directory } = this.#require(version);
    return files.map(({ name, sizeBytes }) => ({
      name,
      sizeBytes,
      open: async (range) => {
        if (directory === null) return this.#backend.get(versionPrefix(version) + name, range && { range });
        return createReadStream(join(directory, name), range && { start: range.start, end: range.end - 1 });
      },
    }));
  }

  locate(version: string): string {
    return this.get(version)?.directory ?? this.#backend.locate(versionPrefix(version).slice(0, -1));
  }

  /** Without its manifest the rest is a leftover, which the next start removes should this process not get to it. */
  async #removeFiles(version: string, files: KnownVersion["files"]): Promise<void> {
    const prefix = versionPrefix(version);
    for (const name of [manifestName, ...files.map((file) => file.name)]) {
      await this.#backend.delete(prefix + name);
    }
  }

  #require(version: string): KnownVersion {
    const known = this.get(version);
    if (known === undefined) throw unknownVersion(version);
    return known;
  }

  async #readWhole(version: string, objects: Objects): Promise<KnownVersion> {
    const key = versionPrefix(version) + manifestName;
    try {
      const manifest = parseManifest(await text(await this.#backend.get(key)));
      const { format, files, summary, uploadedBy } = manifest;
      const lost = files.find(({ name, sizeBytes }) => objects.get(name)?.sizeBytes !== sizeBytes);
      if (lost !== undefined) throw new Error(`${lost.name} is missing or has another size`);
      return { format, files, summary, uploadedBy, directory: null };
    } catch (cause) {
      throw damaged(this.#backend.locate(key), cause);
    }
  }
}

/** Whether a folder holds the files, at their sizes. */
export async function areWhole(files: KnownVersion["files"], directory: string): Promise<boolean> {
  const stats = await Promise.all(files.map(({ name }) => stat(join(directory, name)).catch(() => null)));
  return files.every(({ sizeBytes }, i) => stats[i]?.size === sizeBytes);
}
