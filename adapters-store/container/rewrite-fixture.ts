// For tests: the same tensors under another manifest, in either version of the format, built by hand.

import { deflateSync } from "node:zlib";
import { memorySource } from "./byte-source.ts";
import { manifestDictionary, readHeader } from "./container-header.ts";

export function rewriteManifest(
  bytes: Uint8Array,
  version: 1 | 2,
  change: (text: string) => string,
): Uint8Array {
  const { manifestText, tensorsAt } = readHeader(memorySource(bytes));
  const text = Buffer.from(change(manifestText));
  const stored = deflateSync(text, version === 1 ? {} : { dictionary: manifestDictionary });
  const head = Buffer.alloc(version === 1 ? Math.ceil((20 + stored.length) / 64) * 64 : 20 + stored.length);
  head.write("cotenant");
  head.writeUInt32LE(version, 8);
  head.writeUInt32LE(stored.length, 12);
  head.writeUInt32LE(text.length, 16);
  stored.copy(head, 20);
  return Buffer.concat([head, bytes.subarray(tensorsAt)]);
}
