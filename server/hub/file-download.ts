// One file over HTTP: resumed where a cut left it (`<path>.partial`), checked against the hub's hash, and under
// its own name only when whole. Knows no models.

import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, open, rename, stat, truncate } from "node:fs/promises";
import { HashMismatchError, HubError, hubStatusError } from "./errors.ts";

export type FileDownload = {
  readonly url: string;
  readonly path: string;
  readonly sizeBytes: number;
  /** `sha256` of the content (large files), or git's blob hash (the others). */
  readonly hash: { readonly kind: "sha256" | "git"; readonly hex: string };
  readonly token: string | undefined;
  readonly signal?: AbortSignal;
  readonly onBytes: (doneBytes: number) => void;
};

const stallLimitMs = 60_000; // without a byte; then the connection counts as cut
const attemptLimit = 5; // in a row without a new byte
const pauseMs = 500; // before the second attempt, doubled before each further one

/** Does nothing when the file is there whole. Throws HubError. */
export async function downloadFile(download: FileDownload): Promise<void> {
  if ((await sizeOnDisk(download.path)) === download.sizeBytes) return download.onBytes(download.sizeBytes);
  const partial = `${download.path}.partial`;
  for (const lastTry of [false, true]) {
    await completePartial(download, partial);
    if ((await hashOf(partial, download)) === download.hash.hex) return rename(partial, download.path);
    // A resumed file can join two bodies; from zero it cannot.
    await truncate(partial);
    if (lastTry) throw new HashMismatchError(download.path);
  }
}

async function completePartial(download: FileDownload, partial: string): Promise<void> {
  let failures = 0;
  let done = await sizeOnDisk(partial);
  while (done !== download.sizeBytes || done === 0) {
    const outcome = await appendOnce(download, partial, done).catch((cause: unknown) => ({ cause }));
    const now = await sizeOnDisk(partial);
    if (outcome === undefined && now === download.sizeBytes) return;
    failures = now > done ? 0 : failures + 1;
    done = now;
    if (outcome !== undefined) rethrowFatal(outcome.cause, download);
    if (failures === attemptLimit) throw cutError(download, outcome?.cause);
    await new Promise((wake) => setTimeout(wake, failures === 0 ? 0 : pauseMs * 2 ** (failures - 1)));
  }
}

/** Appends what one response brings; flushed to the disk when it ends well. */
async function appendOnce(download: FileDownload, partial: string, from: number): Promise<undefined> {
  const stalled = new AbortController();
  const watch = setTimeout(() => stalled.abort(new Error(`no data for ${stallLimitMs} ms`)), stallLimitMs);
  const signal = download.signal ? AbortSignal.any([stalled.signal, download.signal]) : stalled.signal;
  let file: FileHandle | undefined;
  try {
    const response = await fetch(download.url, { headers: headersFor(download, from), signal });
    if (!response.ok || response.body === null) {
      await response.body?.cancel();
      if (response.status === 416) return void (await truncate(partial)); // the file on disk is not the hub's
      throw hubStatusError(response.status, download.url);
    }
    const start = response.status === 206 ? from : 0; // 200 is the whole file again
    file = await open(partial, start === 0 ? "w" : "a");
    let done = start;
    for await (const bytes of response.body) {
      watch.refresh();
      if (done + bytes.byteLength > download.sizeBytes) throw tooLong(download);
      await file.write(bytes);
      done += bytes.byteLength;
      download.onBytes(done);
    }
    await file.sync();
  } finally {
    clearTimeout(watch);
    await file?.close();
  }
}

function headersFor({ token }: FileDownload, from: number): Record<string, string> {
  return {
    "accept-encoding": "identity", // ranges and hashes are of the file, not of a compression of it
    ...(from > 0 && { range: `bytes=${from}-` }),
    ...(token !== undefined && { authorization: `Bearer ${token}` }),
  };
}

async function hashOf(partial: string, { hash, sizeBytes }: FileDownload): Promise<string> {
  const digest: Hash =
    hash.kind === "sha256" ? createHash("sha256") : createHash("sha1").update(`blob ${sizeBytes}\0`);
  for await (const bytes of createReadStream(partial)) digest.update(bytes);
  return digest.digest("hex");
}

async function sizeOnDisk(path: string): Promise<number> {
  return (await stat(path).catch(() => undefined))?.size ?? 0;
}

/** What another attempt cannot mend. */
function rethrowFatal(cause: unknown, download: FileDownload): void {
  if (download.signal?.aborted) throw download.signal.reason;
  if (cause instanceof HubError && cause.code !== "hub_refused") throw cause;
  if (cause instanceof Error && "code" in cause && cause.code === "ENOSPC") {
    const remedy = "free some space or name another folder by --cache; the download goes on where it stopped";
    throw new HubError("disk_full", `no space left for ${download.path}: ${remedy}`, { cause });
  }
}

function cutError(download: FileDownload, cause: unknown): HubError {
  const remedy = "start again when the network is back; the download goes on where it stopped";
  return new HubError(
    "hub_download_cut",
    `${download.url} brought nothing in ${attemptLimit} attempts: ${remedy}`,
    { cause },
  );
}

function tooLong(download: FileDownload): HubError {
  const problem = `${download.url} is longer than the ${download.sizeBytes} bytes that the hub lists`;
  return new HubError("hub_hash_mismatch", `${problem}; a mirror or a proxy changes it, see HF_ENDPOINT`);
}
