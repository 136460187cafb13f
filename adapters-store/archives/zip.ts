// Zip archives, stored or deflated. The list at the archive's end is what counts, as for every other reader.

import { crc32 } from "node:zlib";
import { type Entry, openPromise, type ZipFile } from "yauzl";
import type { ArchiveEntry, ArchiveFormat } from "./archive-format.ts";

const unixTypeOf = (entry: Entry) =>
  entry.versionMadeBy >> 8 === 3 ? (entry.externalFileAttributes >>> 28) & 15 : 0;
const unixTypes = { unknown: 0, folder: 4, file: 8 };

export const zip: ArchiveFormat = {
  matches: (head) => ["PK\x03\x04", "PK\x05\x06"].includes(Buffer.from(head).toString("latin1", 0, 4)),

  async *entries(path) {
    // Names stay bytes: which of them are allowed is not the reader's decision.
    const file = await openPromise(path, { lazyEntries: true, autoClose: false, decodeStrings: false });
    try {
      for await (const entry of file.eachEntry()) yield toEntry(file, entry);
    } finally {
      file.close();
    }
  },
};

function toEntry(file: ZipFile, entry: Entry): ArchiveEntry {
  const name = entry.fileNameRaw.toString("utf8");
  const content = async () => checked(await file.openReadStreamPromise(entry), entry.crc32);
  return { name, kind: kindOf(entry, name), content };
}

function kindOf(entry: Entry, name: string): ArchiveEntry["kind"] {
  const unixType = unixTypeOf(entry);
  if (unixType === unixTypes.folder || name.endsWith("/")) return "folder";
  const isPlain = unixType === unixTypes.file || unixType === unixTypes.unknown;
  return isPlain && entry.canDecodeFileData() ? "file" : "other";
}

async function* checked(content: AsyncIterable<Uint8Array>, expected: number): AsyncGenerator<Uint8Array> {
  let sum = 0;
  for await (const chunk of content) {
    sum = crc32(chunk, sum);
    yield chunk;
  }
  if (sum !== expected) throw new Error("a checksum differs");
}
