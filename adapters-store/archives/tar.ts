// Tar archives: POSIX, GNU and pax.

import { createReadStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { type Extract, extract } from "tar-stream";
import type { ArchiveFormat } from "./archive-format.ts";

const magicAt = 257;
const maxHeaderBytes = 4 << 20; // between two files; the reader holds headers such as pax's in memory

export const tar: ArchiveFormat = {
  matches: (head) => Buffer.from(head).toString("latin1", magicAt, magicAt + 5) === "ustar",

  async *entries(path) {
    const reader = extract();
    const feeding = pipeline(createReadStream(path), boundHeaders(reader), reader);
    feeding.catch(() => {}); // the reader has the error
    try {
      for await (const entry of reader) {
        const { name, type } = entry.header;
        const isFile = type === "file" || type === "contiguous-file";
        const kind = isFile ? "file" : type === "directory" ? "folder" : "other";
        yield { name, kind, content: async () => entry as AsyncIterable<Uint8Array> };
        entry.resume(); // what was not read
      }
    } finally {
      reader.destroy();
      await feeding.catch(() => {});
    }
  },
};

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
