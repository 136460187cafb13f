// Tar archives: POSIX, GNU and pax.

import { createReadStream } from "node:fs";
import { PassThrough, type Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { type Extract, extract, type Header } from "tar-stream";
import type { ArchiveEntry, ArchiveFormat } from "./archive-format.ts";

const magicAt = 257;
const maxHeaderBytes = 4 << 20; // between two files; the reader holds headers such as pax's in memory

export const tar: ArchiveFormat = {
  matches: (head) => Buffer.from(head).toString("latin1", magicAt, magicAt + 5) === "ustar",

  entries: (path) => tarEntries(path, new PassThrough()),
};

/** Of a tar archive as it comes out of `unpacker`. */
export async function* tarEntries(path: string, unpacker: Transform): AsyncGenerator<ArchiveEntry> {
  const reader = extract();
  const feeding = pipeline(createReadStream(path), unpacker, boundHeaders(reader), reader);
  feeding.catch(() => {}); // the reader has the error
  try {
    for await (const entry of reader) {
      yield {
        name: entry.header.name,
        kind: kindOf(entry.header),
        content: async () => entry as AsyncIterable<Uint8Array>,
      };
      entry.resume(); // what was not read
    }
  } finally {
    reader.destroy();
    await feeding.catch(() => {});
  }
}

/** A folder that brings bytes is none: nobody would count them. */
function kindOf({ type, size = 0 }: Header): ArchiveEntry["kind"] {
  if (type === "file" || type === "contiguous-file") return "file";
  return type === "directory" && size === 0 ? "folder" : "other";
}

function boundHeaders(reader: Extract) {
  let fedBytes = 0;
  let limitBytes = maxHeaderBytes;
  reader.on("entry", ({ size = 0 }) => {
    limitBytes = fedBytes + size + maxHeaderBytes;
  });
  return async function* (chunks: AsyncIterable<Uint8Array>) {
    for await (const chunk of chunks) {
      fedBytes += chunk.byteLength;
      if (fedBytes > limitBytes) throw new Error(`more than ${maxHeaderBytes} bytes between two files`);
      yield chunk;
    }
  };
}
