// Files that are there, whole, after kill -9 and after a power cut: written, synced, named, the folder synced.

import { constants } from "node:fs";
import { copyFile, link, mkdir, open, rename } from "node:fs/promises";
import { dirname } from "node:path";

/**
 * Creates or replaces a file in place; publish it with `renameDurably` or `linkDurably`.
 * @param content whole, or in pieces that are written one after another
 */
export async function writeFileSynced(
  path: string,
  content: Uint8Array | Iterable<Uint8Array>,
): Promise<void> {
  const file = await open(path, "w");
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Syncs a file's content, or a folder's list of names. */
export async function syncPath(path: string): Promise<void> {
  const file = await open(path, "r");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

/** A second name of a file, or a copy where the two folders are on different disks; its content synced. */
export async function linkOrCopySynced(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    if (!hasErrorCode(error, "EXDEV", "EPERM", "ENOTSUP")) throw error;
    await copyFile(from, to, constants.COPYFILE_FICLONE);
  }
  await syncPath(to);
}

/** Atomic; what lies under `from` must be synced already. */
export async function renameDurably(from: string, to: string): Promise<void> {
  await rename(from, to);
  await syncPath(dirname(to));
}

/** Atomic, and fails with EEXIST where `to` is there; `from` keeps its name too. */
export async function linkDurably(from: string, to: string): Promise<void> {
  await link(from, to);
  await syncPath(dirname(to));
}

/** Creates a folder and its missing parents, each synced into its own parent. */
export async function makeFolderDurably(path: string): Promise<void> {
  const first = await mkdir(path, { recursive: true });
  if (first === undefined) return;
  for (let made = path; made.length >= first.length; made = dirname(made)) await syncPath(dirname(made));
}

export function hasErrorCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && "code" in error && codes.includes(String(error.code));
}
