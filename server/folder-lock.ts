// One process at a time uses a folder. The lock is a file beside it with the owner's process id; that of a process
// that is gone counts for nothing, nor does our own: in a container every server has the same id, and the lock is
// what the one before left.

import { readFile, rm, writeFile } from "node:fs/promises";

/** What to throw while another process holds the lock. */
export type Refusal = (owner: number | "unknown", lockPath: string, cause?: unknown) => Error;

/** Released by `await using`. The folder's parent must exist. Throws what `refusal` makes. */
export async function lockFolder(directory: string, refusal: Refusal): Promise<AsyncDisposable> {
  const path = `${directory}.lock`;
  const owner = await ownerOf(path);
  if (owner !== undefined && owner !== process.pid && isRunning(owner)) throw refusal(owner, path);
  await rm(path, { force: true });
  try {
    await writeFile(path, String(process.pid), { flag: "wx" });
  } catch (cause) {
    throw refusal((await ownerOf(path)) ?? "unknown", path, cause);
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
