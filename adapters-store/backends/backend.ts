// The contract of the place where a store's objects lie: a folder, a bucket. A new one is a file in backends/
// and a line in its index. Objects are bytes under keys with slashes; what they mean is the store's business.

import type { Readable } from "node:stream";
import { CotenantError } from "../../kernels/errors.ts";

export type StoredObject = {
  readonly key: string;
  readonly sizeBytes: number;
  readonly etag: string; // changes whenever the object does
};

/** Bytes, or a file that does not change any more: writing may be repeated, and may keep the file itself. */
export type ObjectBody = Uint8Array | { readonly path: string };

export type PutCondition = { readonly ifAbsent: true } | { readonly ifMatch: string };

export type GetOptions = {
  readonly range?: { readonly start: number; readonly end: number }; // bytes, `end` exclusive, not empty
  readonly ifMatch?: string; // the ETag that the object must still have, from the first byte to the last
};

/** A folder with the asked files in it; disposing of it removes what was made for it. */
export type LocalFolder = AsyncDisposable & { readonly directory: string };

/**
 * One process writes at a time. Every method throws StorageError: `storage_conflict` where a condition does not
 * hold, `storage_object_missing`, or `storage_unavailable` once retrying did not help.
 */
export type StorageBackend = {
  /** Replaces the whole object or nothing; when it resolves, the object survives kill -9 and power cuts. */
  readonly put: (key: string, body: ObjectBody, condition?: PutCondition) => Promise<StoredObject>;
  readonly get: (key: string, options?: GetOptions) => Promise<Readable>;
  /** Null where there is none. */
  readonly head: (key: string) => Promise<StoredObject | null>;
  /** Every object whose key begins with `prefix`, which is empty or ends with a slash; in no order. */
  readonly list: (prefix: string) => AsyncIterable<StoredObject>;
  /** Durable when it resolves; deleting what is not there is no error. */
  readonly delete: (key: string) => Promise<void>;
  /** The named objects under `prefix` as files; a backend that has none makes them in `scratch`, a new folder. */
  readonly openFolder: (prefix: string, names: readonly string[], scratch: string) => Promise<LocalFolder>;
  /** For people: a path or a URL. */
  readonly locate: (key: string) => string;
  readonly close: () => Promise<void>;
};

export class StorageError extends CotenantError {}

export function conflict(location: string, cause?: unknown): StorageError {
  return new StorageError(
    "storage_conflict",
    `${location} was changed by somebody else; let one process at a time write to this store`,
    { cause },
  );
}

export function missing(location: string, cause?: unknown): StorageError {
  return new StorageError(
    "storage_object_missing",
    `${location} is not there; restore it from a backup, or upload it again`,
    { cause },
  );
}
