// Files that are there, whole, after kill -9 and after a power cut: written, synced, renamed, the folder synced.

import { open, rename } from "node:fs/promises";
import { dirname } from "node:path";

/** Creates or replaces a file in place; publish it with `renameDurably`. */
export async function writeFileSynced(path: string, text: string): Promise<void> {
  const file = await open(path, "w");
  try {
    await file.writeFile(text);
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

/** Atomic; what lies under `from` must be synced already. */
export async function renameDurably(from: string, to: string): Promise<void> {
  await rename(from, to);
  await syncPath(dirname(to));
}
