// Where a container's bytes come from: memory or a file. A piece is in memory only while somebody holds it.

import { fstatSync, readSync } from "node:fs";
import { AdapterError } from "../../kernels/errors.ts";

export type ByteSource = {
  readonly sizeBytes: number;
  /** Exactly these bytes, which lie inside of the source. Throws AdapterError `container_truncated`. */
  readonly read: (offset: number, length: number) => Uint8Array;
};

export function memorySource(bytes: Uint8Array): ByteSource {
  return { sizeBytes: bytes.length, read: (offset, length) => bytes.subarray(offset, offset + length) };
}

/** The caller keeps the file open meanwhile, and closes it. */
export function fileSource(fd: number): ByteSource {
  const { size } = fstatSync(fd);
  return {
    sizeBytes: size,
    read(offset, length) {
      const bytes = new Uint8Array(length);
      for (let done = 0; done < length; ) {
        const count = readSync(fd, bytes, done, length - done, offset + done);
        if (count === 0) {
          throw new AdapterError("container_truncated", "the file shrank while it was read; give it again");
        }
        done += count;
      }
      return bytes;
    },
  };
}
