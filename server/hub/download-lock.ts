// One process at a time downloads into a folder: two would write the same partial files. The lock is a file with
// the owner's process id; that of a process that is gone counts for nothing, nor does our own: in a container every
// server has the same id, and the lock is what the one before left.

import { readFile, rm, writeFile } from "node:fs/promises";
import { HubError } from "./errors.ts";

/** Released by `await using`. Throws HubError while another process holds it. */
export async function lockDownload(directory: string): Promise<AsyncDisposable> {
  const path = `${directory}.lock`;
  const owner = await ownerOf(path);
  if (owner !== undefined && owner !== process.pid && isRunning(owner)) throw heldBy(owner, directory);
  await rm(path, { force: true });
  try {
    await writeFile(path, String(process.pid), { flag: "wx" });
  } catch (cause) {
    throw heldBy((await ownerOf(path)) ?? "unknown", directory, cause);
  }
  return { [Symbol.asyncDispose]: () => rm(path, { force: true }) };
}

async function ownerOf(path: string): Promise<number | undefined> {
  const text = await readFile(path, "utf8").catch(() => undefined);
  return text === undefined ? undefined : Number(text);
}

function isRunning(processId: number): boolean {
  if (!Number.isInteger(processId) || processId <= 0) return false;
  try {
    process.kill(processId, 0); // signal 0 asks only
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM"; // somebody else's, but there
  }
}

function heldBy(owner: number | string, directory: string, cause?: unknown): HubError {
  const remedy = `wait for it, or remove ${directory}.lock if that process is not a cotenant`;
  return new HubError("hub_download_busy", `process ${owner} is downloading into ${directory}: ${remedy}`, {
    cause,
  });
}
