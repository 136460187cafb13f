// A tenant's files, a folder each with its content and its record, published by a rename: after a crash a file is there
// whole or not at all. What is another owner's is not found. Knows no HTTP and no jobs.

import { type FileHandle, open, rm } from "node:fs/promises";
import { join } from "node:path";
import {
  hasErrorCode,
  makeFolderDurably,
  renameDurably,
  syncPath,
  writeFileSynced,
} from "../../adapters-store/durable-files.ts";
import { QuotaExceededError } from "../tenancy/errors.ts";
import {
  contentName,
  fileIdsIn,
  newFileId,
  readFileRecord,
  recordName,
  type StoredFile,
  type TrainingFile,
} from "./stored-file.ts";
import { FileInUseError, FileNotFoundError } from "./training-file-errors.ts";
import { takeExamples, writeContent } from "./training-intake.ts";

export type TrainingFilesOptions = {
  /** The id of a job that still needs the file, or null. */
  readonly isUsed: (fileId: string) => string | null;
};

export type IncomingFile = {
  readonly owner: string;
  readonly filename: string;
  readonly content: AsyncIterable<Uint8Array>;
  readonly onGrowth: (sizeBytes: number) => void; // before more is kept, which `storedBytes` counts; may throw
};

/** A whole file that is nobody's yet. It is gone once disposed of, unless it was published. */
export type StagedFile<File extends StoredFile = TrainingFile> = AsyncDisposable & {
  readonly publish: () => Promise<File>;
};

/** A file of a job's making. */
export type ResultsContent = Pick<IncomingFile, "owner" | "filename"> & {
  readonly id: string;
  readonly content: Iterable<string>;
};

export type FilesQuery = {
  readonly after: string | null; // an id, which may be gone by now
  readonly limit: number;
  readonly purpose?: StoredFile["purpose"];
  readonly order: "asc" | "desc"; // of creation
};

const filesLimit = 10_000; // of one owner, as each takes memory
const incomingName = "incoming";

export class TrainingFiles {
  readonly #directory: string;
  readonly #options: TrainingFilesOptions;
  readonly #files = new Map<string, StoredFile>();
  readonly #stored = new Map<string, { files: number; bytes: number }>(); // by owner, with what is arriving

  /** Removes what a killed server left. Throws CotenantError `training_files_damaged`. */
  static async open(directory: string, options: TrainingFilesOptions): Promise<TrainingFiles> {
    await rm(join(directory, incomingName), { recursive: true, force: true });
    const opened = new TrainingFiles(directory, options);
    for (const name of await fileIdsIn(directory)) {
      const file = await readFileRecord(join(directory, name));
      opened.#files.set(file.id, file);
      opened.#count(file.owner, { files: 1, bytes: file.bytes });
    }
    return opened;
  }

  /** Use `open`. */
  constructor(directory: string, options: TrainingFilesOptions) {
    this.#directory = directory;
    this.#options = options;
  }

  /** Throws InvalidTrainingFileError, QuotaExceededError and what `onGrowth` throws; then nothing of it stays. */
  async stage({ owner, filename, content, onGrowth }: IncomingFile): Promise<StagedFile> {
    if ((this.#stored.get(owner)?.files ?? 0) >= filesLimit)
      throw new QuotaExceededError("files", filesLimit);
    const createdAtSeconds = Math.floor(Date.now() / 1000);
    const own = { id: newFileId(), owner, filename, createdAtSeconds, purpose: "fine-tune" } as const;
    return this.#stage(own, async (path, onBytes) => {
      let arrivedBytes = 0;
      const counted = (bytes: number) => {
        onBytes(bytes);
        arrivedBytes += bytes;
        onGrowth(arrivedBytes);
      };
      return { ...own, ...(await takeExamples(content, { path, onBytes: counted })) };
    });
  }

  /** No quota refuses it, as its room was reserved. A second time with the same id does nothing. */
  async keepResults({ id, owner, filename, content }: ResultsContent): Promise<void> {
    if (this.#files.has(id)) return;
    const createdAtSeconds = Math.floor(Date.now() / 1000);
    const own = { id, owner, filename, createdAtSeconds, purpose: "fine-tune-results" } as const;
    await using staged = await this.#stage(own, async (path, onBytes) => ({
      ...own,
      bytes: await writeContent(content, { path, onBytes }),
    }));
    await staged.publish();
  }

  async #stage<File extends StoredFile>(
    { id, owner }: Pick<StoredFile, "id" | "owner">,
    write: (path: string, onBytes: (sizeBytes: number) => void) => Promise<File>,
  ): Promise<StagedFile<File>> {
    const directory = join(this.#directory, incomingName, id);
    let countedBytes = 0;
    const onBytes = (bytes: number) => {
      countedBytes += bytes;
      this.#count(owner, { files: 0, bytes });
    };
    const discard = async () => {
      this.#count(owner, { files: -1, bytes: -countedBytes });
      for (const path of [directory, this.#folderOf(id)]) await rm(path, { recursive: true, force: true });
    };
    this.#count(owner, { files: 1, bytes: 0 });
    try {
      await makeFolderDurably(directory);
      const file = await write(join(directory, contentName), onBytes);
      await writeFileSynced(join(directory, recordName), Buffer.from(JSON.stringify(file)));
      await syncPath(directory);
      let isPublished = false;
      return {
        publish: async () => {
          await renameDurably(directory, this.#folderOf(id));
          this.#files.set(id, file);
          isPublished = true;
          return file;
        },
        [Symbol.asyncDispose]: async () => {
          if (!isPublished) await discard();
        },
      };
    } catch (error) {
      await discard();
      throw error;
    }
  }

  has(id: string): boolean {
    return this.#files.has(id);
  }

  /** Throws FileNotFoundError. */
  get(owner: string, id: string): StoredFile {
    const file = this.#files.get(id);
    if (file?.owner !== owner) throw new FileNotFoundError(id);
    return file;
  }

  list(owner: string, query: FilesQuery): { files: StoredFile[]; hasMore: boolean } {
    const { after, limit, order, purpose } = query;
    const direction = order === "asc" ? 1 : -1;
    const compare = (a: string, b: string) => (a < b ? -direction : a > b ? direction : 0);
    const files = [...this.#files.values()]
      .filter((file) => file.owner === owner && (after === null || compare(file.id, after) > 0))
      .filter((file) => purpose === undefined || file.purpose === purpose)
      .sort((a, b) => compare(a.id, b.id));
    return { files: files.slice(0, limit), hasMore: files.length > limit };
  }

  /** Of published files and of those that are arriving. */
  storedBytes(owner: string): number {
    return this.#stored.get(owner)?.bytes ?? 0;
  }

  /** From here on it cannot be found. Throws FileNotFoundError and FileInUseError. */
  async delete(owner: string, id: string): Promise<void> {
    const file = this.get(owner, id);
    const jobId = this.#options.isUsed(id);
    if (jobId !== null) throw new FileInUseError(id, jobId);
    this.#files.delete(id); // before anything is awaited, so that no job begins with it
    const leaving = join(this.#directory, incomingName, id);
    try {
      await makeFolderDurably(join(this.#directory, incomingName));
      await renameDurably(this.#folderOf(id), leaving);
    } catch (error) {
      this.#files.set(id, file); // so that it can be tried again
      throw error;
    }
    this.#count(owner, { files: -1, bytes: -file.bytes });
    await syncPath(this.#directory);
    await rm(leaving, { recursive: true, force: true });
  }

  pathOf({ id }: StoredFile): string {
    return join(this.#folderOf(id), contentName);
  }

  /** Its content as it was sent, also when it is deleted meanwhile. Throws FileNotFoundError. */
  async openContent(file: StoredFile): Promise<FileHandle> {
    try {
      return await open(this.pathOf(file));
    } catch (error) {
      throw hasErrorCode(error, "ENOENT") ? new FileNotFoundError(file.id) : error;
    }
  }

  #folderOf(id: string): string {
    return join(this.#directory, id);
  }

  #count(owner: string, more: { readonly files: number; readonly bytes: number }): void {
    const { files, bytes } = this.#stored.get(owner) ?? { files: 0, bytes: 0 };
    this.#stored.set(owner, { files: files + more.files, bytes: bytes + more.bytes });
  }
}
