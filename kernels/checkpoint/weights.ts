// All tensors of a checkpoint directory behind one reading interface, whatever files they lie in. Every value
// that is read as float32 is checked to be finite. Knows no model family: the caller says what it requires.

import { join } from "node:path";
import { CheckpointError } from "../errors.ts";
import { findNonFinite } from "./finite.ts";
import { openSafetensors, type SafetensorsFile } from "./safetensors.ts";
import type { TensorInfo } from "./safetensors-header.ts";
import { findWeightFiles } from "./weight-files.ts";

/**
 * Opens `model.safetensors` or the shards of `model.safetensors.index.json`. Throws CheckpointError:
 * those of `findWeightFiles` and `openSafetensors`, `missing_tensor` for one that the index promises and its
 * shard lacks, `duplicate_tensor` for one that lies in two shards.
 */
export function openCheckpointWeights(directory: string): CheckpointWeights {
  const { fileNames, index } = findWeightFiles(directory);
  const files: SafetensorsFile[] = [];
  try {
    const owners = new Map<string, SafetensorsFile>();
    for (const fileName of fileNames) {
      const file = openSafetensors(join(directory, fileName));
      files.push(file);
      for (const name of file.tensors.keys()) {
        if (owners.has(name)) {
          throw new CheckpointError(
            "duplicate_tensor",
            `${directory}: tensor "${name}" lies in two shards, the second is ${fileName}; remove shards of another save`,
          );
        }
        owners.set(name, file);
      }
      for (const [name, promisedIn] of index ?? []) {
        if (promisedIn === fileName && !file.tensors.has(name)) {
          throw new CheckpointError(
            "missing_tensor",
            `${directory}: the index says that tensor "${name}" lies in ${fileName}, but it does not; download both again`,
          );
        }
      }
    }
    return new CheckpointWeights(directory, files, owners);
  } catch (error) {
    for (const file of files) file.close();
    throw error;
  }
}

/** Open files; `close()` them. */
export class CheckpointWeights {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly #directory: string;
  readonly #files: readonly SafetensorsFile[];
  readonly #owners: ReadonlyMap<string, SafetensorsFile>;

  constructor(
    directory: string,
    files: readonly SafetensorsFile[],
    owners: ReadonlyMap<string, SafetensorsFile>,
  ) {
    this.#directory = directory;
    this.#files = files;
    this.#owners = owners;
    this.tensors = new Map(files.flatMap((file) => [...file.tensors]));
  }

  has(name: string): boolean {
    return this.tensors.has(name);
  }

  /** Throws CheckpointError: `missing_tensor`, or `wrong_shape` with both shapes. */
  require(name: string, shape: readonly number[]): TensorInfo {
    const { tensors } = this.#owner(name);
    const tensor = tensors.get(name)!;
    if (tensor.shape.length === shape.length && tensor.shape.every((size, i) => size === shape[i])) {
      return tensor;
    }
    throw new CheckpointError(
      "wrong_shape",
      `${this.#directory}: tensor "${name}" is [${tensor.shape}], but config.json asks for [${shape}]; the config belongs to another checkpoint`,
    );
  }

  /** The tensor's bytes as they lie in the file; not checked to be finite. */
  readRaw(name: string): Uint8Array<ArrayBuffer> {
    return this.#owner(name).readRaw(name);
  }

  /** Throws CheckpointError `missing_tensor`, `non_finite_weights` or `safetensors_unreadable_dtype`. */
  readFloat32(name: string): Float32Array<ArrayBuffer> {
    return this.#finite(name, this.#owner(name).readFloat32(name));
  }

  /** Rows of the first dimension. Throws as `readFloat32`. */
  readFloat32Rows(name: string, firstRow: number, rowCount: number): Float32Array<ArrayBuffer> {
    return this.#finite(name, this.#owner(name).readFloat32Rows(name, firstRow, rowCount));
  }

  close(): void {
    for (const file of this.#files) file.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #owner(name: string): SafetensorsFile {
    const owner = this.#owners.get(name);
    if (owner !== undefined) return owner;
    throw new CheckpointError(
      "missing_tensor",
      `${this.#directory} has no tensor "${name}"; the checkpoint is incomplete or of another architecture`,
    );
  }

  #finite(name: string, values: Float32Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
    const at = findNonFinite(values);
    if (at < 0) return values;
    throw new CheckpointError(
      "non_finite_weights",
      `${this.#directory}: tensor "${name}" holds ${values[at]} (value ${at} of those read); the checkpoint is damaged or its training diverged`,
    );
  }
}
