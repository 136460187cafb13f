// Where an adapter to be added lies: a directory, or files that an upload has written somewhere.

import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { AdapterError } from "../kernels/errors.ts";
import { type ClaimedFiles, claimFiles } from "./formats/index.ts";

export type AdapterSource =
  | { readonly kind: "directory"; readonly path: string }
  | { readonly kind: "files"; readonly files: readonly NamedFile[] };

/** A file somewhere on disk and the name that it has in the adapter's directory. */
export type NamedFile = { readonly name: string; readonly path: string };

export type ClaimedSource = {
  readonly claimed: ClaimedFiles;
  readonly files: readonly NamedFile[]; // the claimed ones
  readonly filesIgnored: readonly string[]; // the names of the others
};

/** Throws AdapterError: `adapter_file_duplicate`, `adapter_directory_unreadable`, and those of `claimFiles`. */
export async function claimSource(source: AdapterSource): Promise<ClaimedSource> {
  const files = source.kind === "files" ? source.files : await filesOf(source.path);
  const names = files.map(({ name }) => name);
  const duplicate = names.find((name, i) => names.indexOf(name) !== i);
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

async function filesOf(directory: string): Promise<NamedFile[]> {
  return (await listFiles(directory)).map((name) => ({ name, path: join(directory, name) }));
}
