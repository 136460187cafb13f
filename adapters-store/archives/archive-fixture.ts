// For tests: writes archives entry by entry, also ones that no well-meaning program makes.

import { crc32, deflateRawSync, gzipSync } from "node:zlib";

export type FixtureEntry = {
  readonly name: string;
  readonly content?: Uint8Array;
  readonly tarType?: string; // one character, default a file
  readonly unixMode?: number; // with the file's type, for zip
};

/** POSIX tar, headers of 512 bytes. */
export function tarOf(entries: readonly FixtureEntry[]): Buffer {
  const parts = entries.flatMap(({ name, content = new Uint8Array(), tarType = "0" }) => {
    const header = Buffer.alloc(512);
    header.write(name, 0, 100);
    header.write("0000644\0", 100);
    header.write(`${content.length.toString(8).padStart(11, "0")}\0`, 124);
    header.write("00000000000\0", 136);
    header.write(" ".repeat(8), 148);
    header.write(tarType, 156);
    if (tarType !== "0") header.write("/etc/passwd", 157);
    header.write("ustar\x0000", 257);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
    return [header, content, Buffer.alloc(-content.length & 511)];
  });
  return Buffer.concat([...parts, Buffer.alloc(1024)]);
}

/** Zip, deflated, made on Unix. */
export function zipOf(entries: readonly FixtureEntry[]): Buffer {
  const locals: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const { name, content = new Uint8Array(), unixMode = 0o100644 } of entries) {
    const packed = deflateRawSync(content);
    const nameBytes = Buffer.from(name);
    const shared = Buffer.alloc(26);
    shared.writeUInt16LE(20, 0);
    shared.writeUInt16LE(8, 4);
    shared.writeUInt32LE(crc32(content), 10);
    shared.writeUInt32LE(packed.length, 14);
    shared.writeUInt32LE(content.length, 18);
    shared.writeUInt16LE(nameBytes.length, 22);
    const local = Buffer.concat([Buffer.from("PK\x03\x04", "latin1"), shared, nameBytes, packed]);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE((unixMode << 16) >>> 0, 6);
    tail.writeUInt32LE(offset, 10);
    directory.push(Buffer.from("PK\x01\x02\x14\x03", "latin1"), shared, tail, nameBytes);
    locals.push(local);
    offset += local.length;
  }
  const listed = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write("PK\x05\x06", "latin1");
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(listed.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...locals, listed, end]);
}

export const archiveWriters = {
  tar: tarOf,
  "tar.gz": (entries: readonly FixtureEntry[]) => gzipSync(tarOf(entries)),
  zip: zipOf,
};
