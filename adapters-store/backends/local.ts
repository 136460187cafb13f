// Objects as files of one folder, under their keys. A new object is written beside the others, synced, and then
// appears by one link or rename, so that no reader and no crash ever meets half of one.

import { randomUUID } from "node:crypto";
import { open, readdir, rm, rmdir, stat, unlink } from "node:fs/promises";
import { dirname, join, relative, sep } from "node:path";
import type { Readable } from "node:stream";
import {
  hasErrorCode,
  linkDurably,
  linkOrCopySynced,
  makeFolderDurably,
  renameDurably,
  syncPath,
  writeFileSynced,
} from "../durable-files.ts";
import { KeyedTurns } from "../store-turns.ts";
import {
  conflict,
  type GetOptions,
  type LocalFolder,
  missing,
  type ObjectBody,
  type PutCondition,
  type StorageBackend,
  StorageError,
  type StoredObject,
} from "./backend.ts";

export type LocalBackendOptions = { readonly directory: string };

/** Removes what an interrupted `put` left. */
export async function openLocalBackend({ directory }: LocalBackendOptions): Promise<StorageBackend> {
  const incoming = join(directory, "incoming");
  await rm(incoming, { recursive: true, force: true });
  await makeFolderDurably(incoming);
  await removeEmptyFolders(directory);
  return new LocalBackend(directory, incoming);
}

class LocalBackend implements StorageBackend {
  readonly #root: string;
  readonly #incoming: string;
  // By folder: a condition and the change that it allows are one step, and a folder is not removed under a writer.
  readonly #turns = new KeyedTurns();

  constructor(root: string, incoming: string) {
    this.#root = root;
    this.#incoming = incoming;
  }

  put(key: string, body: ObjectBody, condition?: PutCondition): Promise<StoredObject> {
    const path = this.locate(key);
    return this.#turns.run(dirname(path), () => named(path, () => this.#put(key, body, condition)));
  }

  async get(key: string, { range, ifMatch }: GetOptions = {}): Promise<Readable> {
    const path = this.locate(key);
    return named(path, async () => {
      const file = await open(path, "r"); // keeps this content, whatever replaces it
      try {
        if (ifMatch !== undefined && (await objectOf(key, file)).etag !== ifMatch) throw conflict(path);
        return file.createReadStream(range === undefined ? {} : { start: range.start, end: range.end - 1 });
      } catch (error) {
        await file.close();
        throw error;
      }
    });
  }

  async head(key: string): Promise<StoredObject | null> {
    try {
      return await objectOf(key, { stat: (options) => stat(this.locate(key), options) });
    } catch (error) {
      if (hasErrorCode(error, "ENOENT", "ENOTDIR")) return null;
      throw error;
    }
  }

  async *list(prefix: string): AsyncIterable<StoredObject> {
    const folder = join(this.#root, prefix);
    const entries = await readdir(folder, { withFileTypes: true, recursive: true }).catch(
      (error: unknown) => {
        if (hasErrorCode(error, "ENOENT")) return [];
        throw error;
      },
    );
    for (const entry of entries) {
      if (!entry.isFile()) continue;
      const path = relative(this.#root, join(entry.parentPath, entry.name));
      const object = await this.head(path.split(sep).join("/"));
      if (object !== null && !path.startsWith(`incoming${sep}`)) yield object;
    }
  }

  delete(key: string): Promise<void> {
    const path = this.locate(key);
    return this.#turns.run(dirname(path), () => named(path, () => this.#delete(path)));
  }

  async openFolder(prefix: string): Promise<LocalFolder> {
    return { directory: join(this.#root, prefix), [Symbol.asyncDispose]: async () => {} };
  }

  locate(key: string): string {
    return join(this.#root, key);
  }

  async close(): Promise<void> {
    await this.#turns.idle();
  }

  async #put(key: string, body: ObjectBody, condition?: PutCondition): Promise<StoredObject> {
    const path = this.locate(key);
    const incoming = join(this.#incoming, randomUUID());
    try {
      if (body instanceof Uint8Array) await writeFileSynced(incoming, body);
      else await linkOrCopySynced(body.path, incoming);
      if (condition !== undefined && "ifMatch" in condition) {
        if ((await this.head(key))?.etag !== condition.ifMatch) throw conflict(path);
      }
      await makeFolderDurably(dirname(path));
      if (condition !== undefined && "ifAbsent" in condition) await linkDurably(incoming, path);
      else await renameDurably(incoming, path);
    } catch (error) {
      throw hasErrorCode(error, "EEXIST") ? conflict(path, error) : error;
    } finally {
      await rm(incoming, { force: true }); // a linked one, or a rename between two names of one file
    }
    return (await this.head(key))!;
  }

  async #delete(path: string): Promise<void> {
    const folder = dirname(path);
    try {
      await unlink(path);
      await syncPath(folder);
      // Folders right below the root stay: others make theirs in them at any time.
      if (dirname(folder) !== this.#root && folder !== this.#root) await rmdir(folder);
    } catch (error) {
      if (!hasErrorCode(error, "ENOENT", "ENOTDIR", "ENOTEMPTY", "EEXIST")) throw error;
    }
  }
}

/** What an interrupted `put` or `delete` left: folders below those of the first level. */
async function removeEmptyFolders(root: string): Promise<void> {
  for (const top of await readdir(root, { withFileTypes: true })) {
    if (!top.isDirectory()) continue;
    for (const entry of await readdir(join(root, top.name), { withFileTypes: true })) {
      if (!entry.isDirectory()) continue;
      await rmdir(join(root, top.name, entry.name)).catch((error: unknown) => {
        if (!hasErrorCode(error, "ENOTEMPTY", "EEXIST")) throw error;
      });
    }
  }
}

type BigintStat = {
  stat(options: { bigint: true }): Promise<{ size: bigint; ino: bigint; mtimeNs: bigint }>;
};

/** A replaced file is another inode, and a reused inode has another time. */
async function objectOf(key: string, file: BigintStat): Promise<StoredObject> {
  const { size, ino, mtimeNs } = await file.stat({ bigint: true });
  return {
    key,
    sizeBytes: Number(size),
    etag: `${ino.toString(36)}-${mtimeNs.toString(36)}-${size.toString(36)}`,
  };
}

async function named<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof StorageError) throw cause;
    if (hasErrorCode(cause, "ENOENT", "ENOTDIR")) throw missing(path, cause);
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new StorageError(
      "storage_unavailable",
      `${path} cannot be used (${why}); check the disk and its free space`,
      { cause },
    );
  }
}
