// Unpacks an archive of one adapter into a folder, within limits. Where the bytes go is never the archive's
// choice: files are numbered, and their names are only checked and told.

import { mkdir, open, stat } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { AdapterError } from "../../kernels/errors.ts";
import type { NamedFile } from "../adapter-source.ts";
import { type ArchiveEntry, type ArchiveFormat, headBytes } from "./archive-format.ts";
import { archiveFormats } from "./index.ts";

export type UnpackLimits = {
  readonly totalBytes: number; // of all files
  readonly entries: number;
  /** Total bytes by the archive's, above the first `freeBytes`: weights hardly shrink, bombs shrink a thousandfold. */
  readonly ratio: number;
  readonly freeBytes: number;
};

const defaultLimits: UnpackLimits = { totalBytes: 2 ** 32, entries: 1000, ratio: 100, freeBytes: 2 ** 24 };

const plainName = /^(?!\.+$)[A-Za-z0-9_.][A-Za-z0-9._-]{0,127}$/;

/**
 * The files of the archive without the one folder that may hold them all, written into `folder`, which is made.
 * Throws AdapterError: `archive_format_unknown`, `archive_malformed`, `archive_too_large`, `archive_path_invalid`,
 * `adapter_file_duplicate`. What was unpacked by then stays.
 */
export async function unpackArchive(
  path: string,
  folder: string,
  limits: UnpackLimits = defaultLimits,
): Promise<NamedFile[]> {
  const format = await formatOf(path);
  const { totalBytes, ratio, freeBytes } = limits;
  let leftBytes = Math.min(totalBytes, freeBytes + ratio * (await stat(path)).size);
  await mkdir(folder, { recursive: true });
  const files: NamedFile[] = [];
  let entries = 0;
  for await (const entry of readable(format.entries(path))) {
    if (++entries > limits.entries) throw tooLarge(`holds more than ${limits.entries} entries`);
    const names = checkedPath(entry);
    if (entry.kind === "folder") continue;
    const file = { name: names.join("/"), path: join(folder, String(files.length)) };
    if (files.some(({ name }) => name === file.name)) throw duplicate(file.name);
    files.push(file);
    leftBytes -= await write(entry, file.path, leftBytes);
  }
  return withoutTopFolder(files);
}

async function formatOf(path: string): Promise<ArchiveFormat> {
  const file = await open(path, "r");
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(headBytes), 0, headBytes, 0);
    const head = buffer.subarray(0, bytesRead);
    const format = Object.values(archiveFormats).find(({ matches }) => matches(head));
    if (format !== undefined) return format;
  } finally {
    await file.close();
  }
  const known = Object.keys(archiveFormats).map((name) => `.${name}`);
  throw new AdapterError(
    "archive_format_unknown",
    `the archive is of no known format; send one of ${known.join(", ")}`,
  );
}

/** A folder and a name at most, relative and plain. */
function checkedPath({ name, kind }: ArchiveEntry): string[] {
  const path = name.replace(/^(\.\/)+/, "").replace(/\/$/, "");
  if (kind === "folder" && (path === "" || path === ".")) return [];
  const names = path.split("/");
  if (kind !== "other" && names.length <= 2 && names.every((part) => plainName.test(part))) return names;
  const what = kind === "other" ? "a link, a device or encrypted" : "no plain name";
  throw new AdapterError(
    "archive_path_invalid",
    `the archive holds ${JSON.stringify(name.slice(0, 200))}, which is ${what}; archive the adapter's files alone, or one folder with them`,
  );
}

/** How many bytes it had. */
async function write(entry: ArchiveEntry, path: string, limitBytes: number): Promise<number> {
  let sizeBytes = 0;
  const limited = async function* () {
    for await (const chunk of readable(entry.content())) {
      sizeBytes += chunk.byteLength;
      if (sizeBytes > limitBytes)
        throw tooLarge("unpacks to more bytes than an adapter of its size can have");
      yield chunk;
    }
  };
  const file = await open(path, "wx"); // there before anything can fail, so that whoever removes the folder finds it
  await pipeline(limited, file.createWriteStream());
  return sizeBytes;
}

/** What fails here is the archive, and what fails around it is not. */
async function* readable<T>(items: AsyncIterable<T> | Promise<AsyncIterable<T>>): AsyncGenerator<T> {
  const iterator = await Promise.resolve(items)
    .then((found) => found[Symbol.asyncIterator]())
    .catch(malformed);
  try {
    for (;;) {
      const { done, value } = await iterator.next().catch(malformed);
      if (done) return;
      yield value;
    }
  } finally {
    await iterator.return?.().catch(() => {}); // it is only let go
  }
}

function malformed(cause: unknown): never {
  const why = cause instanceof Error ? cause.message : String(cause);
  throw new AdapterError(
    "archive_malformed",
    `the archive cannot be read (${why.slice(0, 200)}); make it again`,
    { cause },
  );
}

function withoutTopFolder(files: readonly NamedFile[]): NamedFile[] {
  const folders = new Set(files.map(({ name }) => name.slice(0, name.indexOf("/") + 1)));
  const [top = ""] = folders;
  if (folders.size <= 1) return files.map(({ name, path }) => ({ name: name.slice(top.length), path }));
  throw new AdapterError(
    "archive_path_invalid",
    `the archive's files lie in several folders (${[...folders].map((folder) => folder || "./").slice(0, 5)}); archive one adapter's files alone, or one folder with them`,
  );
}

function tooLarge(what: string): AdapterError {
  return new AdapterError("archive_too_large", `the archive ${what}; send the adapter's files alone`);
}

function duplicate(name: string): AdapterError {
  return new AdapterError(
    "adapter_file_duplicate",
    `the archive holds ${name} twice; make it again with one of them`,
  );
}
