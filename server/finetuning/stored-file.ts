// What is kept of a file, and its folder on the disk.

import { randomBytes } from "node:crypto";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { hasErrorCode } from "../../adapters-store/durable-files.ts";
import { CotenantError } from "../../kernels/errors.ts";
import type { ExampleFormat } from "./training-example.ts";

type FileOf<Purpose extends string> = {
  readonly id: string;
  readonly owner: string;
  readonly filename: string; // the client's label
  readonly bytes: number;
  readonly createdAtSeconds: number; // Unix time
  readonly purpose: Purpose;
};

export type TrainingFile = FileOf<"fine-tune"> & {
  readonly format: ExampleFormat;
  readonly examples: number;
};
/** What a job told of its steps. */
export type ResultsFile = FileOf<"fine-tune-results">;
export type StoredFile = TrainingFile | ResultsFile;

export const filePurposes = ["fine-tune", "fine-tune-results"] as const satisfies StoredFile["purpose"][];

/** Ids sort by the time at which they were made. */
export const fileIdPattern = /^file-[0-9a-f]{32}$/;

export function newFileId(): string {
  return `file-${Date.now().toString(16).padStart(12, "0")}${randomBytes(10).toString("hex")}`;
}

export const contentName = "content.jsonl";
export const recordName = "file.json";

export async function fileIdsIn(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).filter((name) => fileIdPattern.test(name)); // disks have names of their own
  } catch (error) {
    if (hasErrorCode(error, "ENOENT")) return [];
    throw error;
  }
}

/** Throws CotenantError `training_files_damaged`. */
export async function readFileRecord(directory: string): Promise<StoredFile> {
  try {
    const record: StoredFile = JSON.parse(await readFile(join(directory, recordName), "utf8"));
    const { size } = await stat(join(directory, contentName));
    if (size !== record.bytes) throw new Error(`${size} bytes where the record says ${record.bytes}`);
    return { ...record, purpose: record.purpose ?? "fine-tune" } as StoredFile; // once there was no other
  } catch (cause) {
    throw new CotenantError(
      "training_files_damaged",
      `${directory} holds no whole file; restore it, or move the folder away`,
      { cause },
    );
  }
}
