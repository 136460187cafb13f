// The checkpoints of finetuning jobs as files: the newest two of each job, whole or not at all. A file is the SHA-256
// of what follows, the header's length, the header (JSON: step, names of values, and the arrays' names, types and
// lengths), the values, and the arrays, each at a multiple of eight bytes.

import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { makeFolderDurably, renameDurably, writeFileSynced } from "../../adapters-store/durable-files.ts";
import { hashInTurns } from "../../adapters-store/hash-in-turns.ts";
import type { CheckpointArray, JobCheckpoint } from "../../finetuning/job.ts";
import { CotenantError } from "../../kernels/errors.ts";

type Header = {
  readonly format: 1;
  readonly job: string;
  readonly step: number;
  readonly values: readonly string[]; // names; the numbers come first behind the header, as JSON has no NaN and no -0
  readonly arrays: readonly ArrayEntry[];
};
type ArrayEntry = { readonly name: string; readonly type: ArrayType; readonly length: number };

const arrayTypes = {
  f32: Float32Array,
  f64: Float64Array,
  u8: Uint8Array,
  u32: Uint32Array,
} as const;
type ArrayType = keyof typeof arrayTypes;

export type LoadedCheckpoint = {
  readonly checkpoint: JobCheckpoint | null; // null = there is none that can be read
  readonly damaged: readonly string[]; // names of newer files that cannot be
};

const hashBytes = 32;
const lengthBytes = 8;
const kept = 2;
const namePattern = /^step-\d{10}\.checkpoint$/;

export class JobCheckpoints {
  readonly #directory: string;

  /** Its subfolders are jobs. */
  constructor(directory: string) {
    this.#directory = directory;
  }

  /** When it resolves, the checkpoint survives a kill and a power cut. Returns the file's size in bytes. */
  async write(jobId: string, checkpoint: JobCheckpoint): Promise<number> {
    const folder = this.#folderOf(jobId);
    await makeFolderDurably(folder);
    const pieces = await encode(jobId, checkpoint);
    const path = join(folder, `step-${String(checkpoint.step).padStart(10, "0")}.checkpoint`);
    await writeFileSynced(`${path}.partial`, pieces);
    await renameDurably(`${path}.partial`, path);
    for (const name of (await this.#names(jobId)).slice(kept)) await rm(join(folder, name));
    return pieces.reduce((sum, { length }) => sum + length, 0);
  }

  /**
   * The newest that is whole; newer ones that are not are removed. Throws CotenantError `checkpoint_format_unknown`
   * for one of another version of cotenant, which stays.
   */
  async read(jobId: string): Promise<LoadedCheckpoint> {
    const damaged: string[] = [];
    for (const name of await this.#names(jobId)) {
      const checkpoint = await decode(jobId, await readFile(join(this.#folderOf(jobId), name)));
      if (checkpoint !== null) return { checkpoint, damaged };
      damaged.push(name);
      await rm(join(this.#folderOf(jobId), name));
    }
    return { checkpoint: null, damaged };
  }

  async remove(jobId: string): Promise<void> {
    await rm(this.#folderOf(jobId), { recursive: true, force: true });
  }

  /** Of jobs that are over, which a kill kept from being removed. */
  async removeAllBut(isWanted: (jobId: string) => boolean): Promise<void> {
    for (const jobId of await listed(this.#directory)) if (!isWanted(jobId)) await this.remove(jobId);
  }

  /** Newest first. */
  async #names(jobId: string): Promise<string[]> {
    const names = await listed(this.#folderOf(jobId));
    return names
      .filter((name) => namePattern.test(name))
      .sort()
      .reverse();
  }

  #folderOf(jobId: string): string {
    return join(this.#directory, jobId);
  }
}

/** The file in pieces, the arrays' own memory among them: all at once would be as much memory again. */
async function encode(job: string, { step, values, arrays }: JobCheckpoint): Promise<readonly Uint8Array[]> {
  const entries = Object.entries(arrays).map(([name, array]) => ({ name, type: typeOf(array), array }));
  const header: Header = {
    format: 1,
    job,
    step,
    values: Object.keys(values),
    arrays: entries.map(({ name, type, array }) => ({ name, type, length: array.length })),
  };
  const text = Buffer.from(JSON.stringify(header));
  const padded = Buffer.concat([text, Buffer.alloc(paddingOf(hashBytes + lengthBytes + text.length), " ")]);
  const length = Buffer.alloc(lengthBytes);
  length.writeUInt32LE(padded.length);
  const numbers = Float64Array.from(Object.values(values));
  const pieces = [numbers, ...entries.map(({ array }) => array)].flatMap(
    ({ buffer, byteOffset, byteLength }) => [
      new Uint8Array(buffer, byteOffset, byteLength),
      Buffer.alloc(paddingOf(byteLength)),
    ],
  );
  const hashed = [length, padded, ...pieces];
  return [await hashInTurns(hashed), ...hashed];
}

/** Null for what is not whole, or another job's. */
async function decode(jobId: string, content: Buffer): Promise<JobCheckpoint | null> {
  const start = hashBytes + lengthBytes;
  if (content.length < start) return null;
  if (!content.subarray(0, hashBytes).equals(await hashInTurns([content.subarray(hashBytes)]))) return null;
  const headerEnd = start + content.readUInt32LE(hashBytes);
  const header: Header = JSON.parse(content.toString("utf8", start, headerEnd));
  if (header.format !== 1) throw unknownFormat(header.format);
  if (header.job !== jobId) return null;
  let offset = headerEnd;
  const next = (type: ArrayType, length: number): CheckpointArray => {
    const array = new arrayTypes[type](length);
    new Uint8Array(array.buffer).set(content.subarray(offset, offset + array.byteLength));
    offset += array.byteLength + paddingOf(array.byteLength);
    return array;
  };
  const numbers = next("f64", header.values.length);
  return {
    step: header.step,
    values: Object.fromEntries(header.values.map((name, i) => [name, numbers[i]!])),
    arrays: Object.fromEntries(header.arrays.map(({ name, type, length }) => [name, next(type, length)])),
  };
}

function unknownFormat(format: unknown): CotenantError {
  return new CotenantError(
    "checkpoint_format_unknown",
    `the job's checkpoint has format ${format}, of another version of cotenant; resume it with that version`,
  );
}

function typeOf(array: CheckpointArray): ArrayType {
  const types = Object.keys(arrayTypes) as ArrayType[];
  return types.find((type) => array instanceof arrayTypes[type])!;
}

function paddingOf(length: number): number {
  return (8 - (length % 8)) % 8;
}

async function listed(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return [];
    throw error;
  }
}
