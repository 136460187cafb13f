// Writes a POSIX tar archive (ustar) as a stream: a header of 512 bytes, the content, zeros up to a whole block; two
// blocks of zeros at the end.

import type { ExportedFile } from "../../adapter-files.ts";

const blockBytes = 512;
const octalDigits = 11; // of a size: below 8 GiB

export async function* tarOf(files: readonly ExportedFile[]): AsyncGenerator<Uint8Array> {
  for (const { name, sizeBytes, open } of files) {
    yield headerOf(name, sizeBytes);
    yield* await open();
    yield Buffer.alloc(-sizeBytes & (blockBytes - 1));
  }
  yield Buffer.alloc(2 * blockBytes);
}

/** Offsets are the standard's. */
function headerOf(name: string, sizeBytes: number): Buffer {
  if (Buffer.byteLength(name) > 100) throw new Error(`${name} is too long for a tar header`);
  const header = Buffer.alloc(blockBytes);
  header.write(name, 0);
  header.write("0000644\0", 100); // mode
  header.write("0000000\0", 108); // user
  header.write("0000000\0", 116); // group
  header.write(`${sizeBytes.toString(8).padStart(octalDigits, "0")}\0`, 124);
  header.write(`${"0".repeat(octalDigits)}\0`, 136); // time: the same version is the same archive
  header.write(" ".repeat(8), 148); // the checksum counts itself as spaces
  header.write("0", 156); // a file
  header.write("ustar\x0000", 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return header;
}
