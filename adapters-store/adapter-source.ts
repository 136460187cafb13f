// Where an adapter to be added lies: a directory, files that an upload has written somewhere, or an archive of
// them.

import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { AdapterError } from "../kernels/errors.ts";
import { unpackArchive } from "./archives/unpack.ts";
import { type ClaimedFiles, claimFiles } from "./formats/index.ts";

export type AdapterSource =
  | { readonly kind: "directory"; readonly path: string }
  | { readonly kind: "files"; readonly files: readonly NamedFile[] }
  | { readonly kind: "archive"; readonly path: string }; // told by its content

/** A file somewhere on disk and the name that it has in the adapter's directory. */
export type NamedFile = { readonly name: string; readonly path: string };

export type ClaimedSource = {
  readonly claimed: ClaimedFiles;
  readonly files: readonly NamedFile[]; // the claimed ones
  readonly filesIgnored: readonly string[]; // the names of the others
};

/**
 * An archive is unpacked into `unpackFolder`, which must not be there. Throws AdapterError:
 * `adapter_file_duplicate`, `adapter_directory_unreadable`, and those of `unpackArchive` and `claimFiles`.
 */
export async function claimSource(source: AdapterSource, unpackFolder: string): Promise<ClaimedSource> {
  const files =
    source.kind === "archive" ? await unpackArchive(source.path, unpackFolder) : await filesOf(source);
  const names = files.map(({ name }) => name);
  const duplicate = findDuplicate(names);
  if (duplicate !== undefined) {
    throw new AdapterError("adapter_file_duplicate", `the file ${duplicate} was given twice; give it once`);
  }
  const claimed = claimFiles(names);
  const isClaimed = (name: string) => claimed.fileNames.includes(name);
  return {
    claimed,
    files: files.filter(({ name }) => isClaimed(name)),
    filesIgnored: names.filter((name) => !isClaimed(name)),
  };
}

/** What was given, on disk; an archive may hold more. */
export async function sourceBytes(source: AdapterSource): Promise<number> {
  const files = source.kind === "archive" ? [source] : await filesOf(source);
  const sizes = await Promise.all(files.map(async ({ path }) => (await stat(path)).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** Names in a directory. Throws AdapterError `adapter_directory_unreadable`. */
export async function listFiles(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (cause) {
    throw new AdapterError("adapter_directory_unreadable", `${directory} cannot be listed; check the path`, {
      cause,
    });
  }
}

async function filesOf(source: Exclude<AdapterSource, { kind: "archive" }>): Promise<readonly NamedFile[]> {
  if (source.kind === "files") return source.files;
  return (await listFiles(source.path)).map((name) => ({ name, path: join(source.path, name) }));
}

function findDuplicate(names: readonly string[]): string | undefined {
  const seen = new Set<string>();
  return names.find((name) => seen.size === seen.add(name).size);
}
