// Downloads a checkpoint from the Hugging Face hub into the cache. The only file that imports @huggingface/hub,
// which answers what a revision is and which files it has. Its own downloads write no partial file that a later
// run resumes and check no hash, so hub/file-download.ts moves the bytes.

import { mkdir, readFile, rename, stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import { HubApiError, type ListFileEntry, listFiles, modelInfo } from "@huggingface/hub";
import type { Progress } from "../scheduler/engine.ts";
import { lockDownload } from "./hub/download-lock.ts";
import { HubError, hubStatusError } from "./hub/errors.ts";
import { downloadFile } from "./hub/file-download.ts";
import { type ModelReference, parseModelReference } from "./hub/model-reference.ts";
import { describingFiles, shardsIn, weightFiles } from "./hub/needed-files.ts";
import { writeDurably } from "./hub/write-durably.ts";

export type HubOptions = {
  readonly cacheDirectory: string;
  readonly endpoint: string; // HF_ENDPOINT
  readonly token: string | undefined; // HF_TOKEN
  readonly onProgress: (progress: Progress) => void;
  /** Said once when the hub cannot be reached and the copy on disk is served instead. */
  readonly onOffline: (message: string) => void;
  readonly signal?: AbortSignal;
};

const commitPattern = /^[0-9a-f]{40}$/;

export const publicHub = "https://huggingface.co";

/**
 * The directory of a complete, hash-checked copy of `org/name[@revision]`. Only a complete copy ever has that
 * path: files arrive in `<commit>.partial`, which is renamed at the end. Throws HubError.
 */
export async function downloadModel(text: string, options: HubOptions): Promise<string> {
  const model = parseModelReference(text);
  if (options.token !== undefined && !options.token.startsWith("hf_")) {
    throw new HubError("hub_token_malformed", "HF_TOKEN is not a hub token: these start with hf_");
  }
  const folder = join(options.cacheDirectory, "hub", model.name.replace("/", "--"));
  const revisionFile = join(folder, "revisions", encodeURIComponent(model.revision));
  const pinned = join(folder, model.revision);
  if (commitPattern.test(model.revision) && (await isDirectory(pinned))) return pinned; // no network needed
  const commit = await resolveCommit(model, revisionFile, options);
  const directory = join(folder, commit);
  if (!(await isDirectory(directory))) await fill(directory, { model, commit }, options);
  await mkdir(join(folder, "revisions"), { recursive: true });
  await writeDurably(revisionFile, commit);
  return directory;
}

/** The commit that a branch or tag stands for now; offline, what it stood for when it was last downloaded. */
async function resolveCommit(
  model: ModelReference,
  revisionFile: string,
  options: HubOptions,
): Promise<string> {
  try {
    const info = await modelInfo({ ...clientOptions(options), ...model, additionalFields: ["sha"] });
    if (!commitPattern.test(info.sha)) throw new Error(`not a commit: ${info.sha}`); // it becomes a folder's name
    return info.sha;
  } catch (cause) {
    const refused = cause instanceof HubApiError && cause.statusCode < 500;
    const known = refused ? undefined : await readIfPresent(revisionFile);
    if (known === undefined) throw translated(cause, model, options);
    options.onOffline(
      `${options.endpoint} cannot be reached; serving the copy of ${model.name} on disk (${known})`,
    );
    return known;
  }
}

type Checkout = { readonly model: ModelReference; readonly commit: string };

async function fill(directory: string, checkout: Checkout, options: HubOptions): Promise<void> {
  const partial = `${directory}.partial`;
  await mkdir(partial, { recursive: true });
  await using _lock = await lockDownload(directory);
  if (await isDirectory(directory)) return; // by whoever held the lock until now
  await downloadFiles(partial, checkout, options);
  await rename(partial, directory);
}

async function downloadFiles(
  directory: string,
  { model, commit }: Checkout,
  options: HubOptions,
): Promise<void> {
  const entries: ListFileEntry[] = [];
  try {
    const listing = listFiles({ ...clientOptions(options), repo: model.name, revision: commit });
    for await (const entry of listing) if (entry.type === "file") entries.push(entry);
  } catch (cause) {
    throw translated(cause, model, options);
  }

  const fetchAll = async (files: readonly ListFileEntry[]) => {
    await refuseWhenDiskIsShort(directory, files);
    for (const { path, size, oid, lfs } of files) {
      // The same address that the client would use; it redirects to storage that answers range requests.
      const url = `${options.endpoint}/${model.name}/resolve/${commit}/${encodeURIComponent(path)}`;
      const hash = lfs
        ? ({ kind: "sha256", hex: lfs.oid } as const)
        : ({ kind: "git", hex: oid ?? "" } as const);
      const onBytes = (done: number) =>
        options.onProgress({ stage: `downloading ${path}`, done, total: size });
      await downloadFile({ ...options, url, hash, sizeBytes: size, path: join(directory, path), onBytes });
    }
  };
  const names = entries.map((entry) => entry.path);
  const named = (wanted: readonly string[]) => entries.filter((entry) => wanted.includes(entry.path));
  await fetchAll(named(describingFiles(names, model.name)));
  const shards = await shardsIn(directory, names);
  await fetchAll(named(shards ?? weightFiles(names, model.name)));
}

async function refuseWhenDiskIsShort(directory: string, files: readonly ListFileEntry[]): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  const present = await Promise.all(files.map(({ path }) => sizeOf(join(directory, path))));
  const needed = files.reduce((sum, { size }, index) => sum + size - present[index]!, 0);
  if (needed <= bavail * bsize) return;
  const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(2)} GB`;
  throw new HubError(
    "disk_full",
    `the download needs ${gigabytes(needed)} and ${directory} has ${gigabytes(bavail * bsize)} free; free some, or name another folder by --cache`,
  );
}

function clientOptions({ endpoint, token, signal }: HubOptions) {
  const fetchWithSignal: typeof fetch = (input, init) => fetch(input, { ...init, ...(signal && { signal }) });
  return { hubUrl: endpoint, fetch: fetchWithSignal, ...(token !== undefined && { accessToken: token }) };
}

function translated(cause: unknown, model: ModelReference, options: HubOptions): unknown {
  if (options.signal?.aborted) return options.signal.reason;
  if (cause instanceof HubApiError && cause.statusCode < 500) {
    return hubStatusError(cause.statusCode, `${model.name}@${model.revision} on ${options.endpoint}`, cause);
  }
  if (cause instanceof TypeError && cause.message.includes("access token")) {
    return new HubError("hub_token_malformed", "HF_TOKEN is not a hub token: these start with hf_", {
      cause,
    });
  }
  const remedy = "check the network or HF_ENDPOINT, or pass --model a directory";
  return new HubError("hub_unreachable", `${options.endpoint} cannot be reached; ${remedy}`, { cause });
}

/** Bytes of the file that are on disk already, as `.partial` or whole. */
async function sizeOf(path: string): Promise<number> {
  const found = await Promise.all([path, `${path}.partial`].map((name) => stat(name).catch(() => undefined)));
  return found[0]?.size ?? found[1]?.size ?? 0;
}

async function isDirectory(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() ?? false;
}

async function readIfPresent(path: string): Promise<string | undefined> {
  return readFile(path, "utf8").catch(() => undefined);
}
