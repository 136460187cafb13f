// The contract of an archive that an adapter may come in. A new one is a file in archives/ and a line in its
// index. It tells what is in the archive; what of that may be unpacked is unpack.ts's business.

export type ArchiveEntry = {
  readonly name: string; // as the archive has it: not to be trusted
  readonly kind: "file" | "folder" | "other"; // other = links, devices, pipes, what is encrypted
  /** Of a file; to be read before the next entry is asked for, or not at all. */
  readonly content: () => Promise<AsyncIterable<Uint8Array>>;
};

export type ArchiveFormat = {
  /** By the archive's first bytes, of which there are at most `headBytes`. */
  readonly matches: (head: Uint8Array) => boolean;

  /** In the archive's order. Whatever this or a content throws means that the archive is malformed. */
  readonly entries: (path: string) => AsyncIterable<ArchiveEntry>;
};

export const headBytes = 512;
