// The identity of a base model: a hash over the content of its config.json and of its weights. Hashing
// gigabytes takes seconds, so each file's hash is remembered in the cache directory under its path, size, inode
// and times: a second start reads no weights. Editing a file changes its mtime, and what resets that (a tool
// that restores times) changes its ctime.

import { createHash } from "node:crypto";
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join, resolve } from "node:path";
import { CheckpointError } from "../errors.ts";
import { findWeightFiles } from "./weight-files.ts";

const pieceBytes = 4 << 20;

export type FingerprintOptions = {
  readonly directory: string;
  readonly cacheDirectory: string;
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
};

/** SHA-256 in hex. Blocks the calling thread; throws CheckpointError as `findWeightFiles`, or `missing_config`. */
export function fingerprintCheckpoint({ directory, cacheDirectory, onProgress }: FingerprintOptions): string {
  const configPath = join(directory, "config.json");
  if (statSync(configPath, { throwIfNoEntry: false }) === undefined) {
    throw new CheckpointError(
      "missing_config",
      `${directory} has no config.json; give the directory of a Hugging Face checkpoint`,
    );
  }
  const paths = [configPath, ...findWeightFiles(directory).fileNames.map((name) => join(directory, name))];
  const totalBytes = paths.reduce((sum, path) => sum + statSync(path).size, 0);
  const whole = createHash("sha256");
  let doneBytes = 0;
  for (const path of paths) {
    const sha256 = rememberedHash(path, {
      cacheDirectory: join(cacheDirectory, "fingerprints"),
      onBytes: (count) => onProgress?.(doneBytes + count, totalBytes),
    });
    whole.update(sha256);
    doneBytes += statSync(path).size;
    onProgress?.(doneBytes, totalBytes);
  }
  return whole.digest("hex");
}

type HashOptions = {
  readonly cacheDirectory: string;
  readonly onBytes: (doneBytes: number) => void;
};

function rememberedHash(path: string, { cacheDirectory, onBytes }: HashOptions): string {
  const status = statSync(path, { bigint: true });
  const key = [resolve(path), status.size, status.ino, status.mtimeNs, status.ctimeNs].join("\n");
  const memoPath = join(cacheDirectory, createHash("sha256").update(key).digest("hex"));
  const remembered = readIfPresent(memoPath);
  if (remembered !== undefined && /^[0-9a-f]{64}$/.test(remembered)) return remembered;
  const sha256 = hashFile(path, onBytes);
  mkdirSync(cacheDirectory, { recursive: true });
  const temporaryPath = `${memoPath}.${process.pid}.tmp`;
  writeFileSync(temporaryPath, sha256);
  renameSync(temporaryPath, memoPath);
  return sha256;
}

function hashFile(path: string, onBytes: (doneBytes: number) => void): string {
  const hash = createHash("sha256");
  const piece = new Uint8Array(pieceBytes);
  const fd = openSync(path, "r");
  try {
    let done = 0;
    for (let count = readSync(fd, piece); count > 0; count = readSync(fd, piece)) {
      hash.update(piece.subarray(0, count));
      done += count;
      onBytes(done);
    }
  } finally {
    closeSync(fd);
  }
  return hash.digest("hex");
}

function readIfPresent(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined; // not hashed yet
  }
}
