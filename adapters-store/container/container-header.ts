// The first bytes of a *.cotenant file: magic, version, and the manifest's lengths. See docs/container.md.

import { deflateSync, inflateSync, type ZlibOptions } from "node:zlib";
import { AdapterError } from "../../kernels/errors.ts";
import type { ByteSource } from "./byte-source.ts";

const magic = "cotenant";
/** What is written. Version 1 is read too. */
const containerVersion = 2;
const headerBytes = 20;
/** Some 30,000 modules; of JSON text. */
const maxManifestBytes = 4 << 20;

/** What version 2's deflate may refer to before the manifest's own text, so that a short one spells out few words. */
export const manifestDictionary = Buffer.from(
  '"kind":"embedding","kind":"head","kind":"soft-prompt","tokens":"hidden":"kind":"prefix","keys":"values":' +
    '"kind":"sparse","entries":"indices":"kind":"channels","channels":"gaps""u32""kind":"scale","shift":' +
    '"ledger""masked-ledger""sparse""bf16""f32""f16""int8""int4"{"base":"","sha256":"","ledgerBytes":0,' +
    '"modules":[{"kind":"low-rank","layer":0,"projection":"o","rank":8,"scale":1,"tensors":{"a":{"codec":' +
    '"ternary","shape":[8,"bytes":},"b":{"codec":"ternary","shape":[8,"bytes":}}},{"kind":"low-rank","layer":1,' +
    '"projection":"gate","rank":16,"scale":1,"tensors":{"a":{"codec":"ternary","shape":[16,"projection":"q",' +
    '"projection":"k","projection":"v","projection":"up","projection":"down"}}}],"lineage":{"operation":' +
    '"compress","parents":[""],"parameters":{"method":"compeft","density":0.05}},"metadata":{}}',
);

/** Where versions differ; the first tensor's place is a multiple of `alignment`. */
const versions: Readonly<Record<number, { readonly deflate: ZlibOptions; readonly alignment: number }>> = {
  1: { deflate: {}, alignment: 64 },
  2: { deflate: { dictionary: manifestDictionary }, alignment: 1 },
};

export type ContainerText = { readonly manifestText: string; readonly tensorsAt: number };

/** Throws AdapterError `container_malformed`, `container_version_unsupported` or `container_truncated`. */
export function readHeader(source: ByteSource): ContainerText {
  if (source.sizeBytes < headerBytes) throw malformed(`it has ${source.sizeBytes} bytes`);
  const header = Buffer.from(source.read(0, headerBytes));
  if (header.toString("latin1", 0, 8) !== magic) throw malformed(`it does not begin with "${magic}"`);
  const layout = versions[header.readUInt32LE(8)];
  if (layout === undefined) {
    throw new AdapterError(
      "container_version_unsupported",
      `the container has version ${header.readUInt32LE(8)}, this server reads ${Object.keys(versions).join(" and ")}; write it again with the same release, or update the server`,
    );
  }
  const storedBytes = header.readUInt32LE(12);
  const textBytes = header.readUInt32LE(16);
  if (textBytes > maxManifestBytes || storedBytes > maxManifestBytes) {
    throw malformed(`its manifest has ${textBytes} bytes, more than ${maxManifestBytes}`);
  }
  const tensorsAt = alignUp(headerBytes + storedBytes, layout.alignment);
  if (tensorsAt > source.sizeBytes) {
    throw new AdapterError(
      "container_truncated",
      `the manifest ends at byte ${tensorsAt}, but the file has ${source.sizeBytes}; download or copy it again`,
    );
  }
  const text = inflate(source.read(headerBytes, storedBytes), textBytes, layout.deflate);
  try {
    return { manifestText: new TextDecoder("utf-8", { fatal: true }).decode(text), tensorsAt };
  } catch (cause) {
    throw malformed("its manifest is not UTF-8", cause);
  }
}

/** Everything before the first tensor. */
export function writeHeader(manifestText: string): Uint8Array {
  const text = Buffer.from(manifestText);
  if (text.length > maxManifestBytes) {
    throw new AdapterError(
      "container_too_large",
      `the manifest would have ${text.length} bytes, the limit is ${maxManifestBytes}; give less metadata`,
    );
  }
  const { deflate, alignment } = versions[containerVersion]!;
  const stored = deflateSync(text, { ...deflate, level: 9 });
  const bytes = Buffer.alloc(alignUp(headerBytes + stored.length, alignment));
  bytes.write(magic, "latin1");
  bytes.writeUInt32LE(containerVersion, 8);
  bytes.writeUInt32LE(stored.length, 12);
  bytes.writeUInt32LE(text.length, 16);
  stored.copy(bytes, headerBytes);
  return bytes;
}

/** zlib's own checksum guards the text; what follows its end inside of `stored` is refused. */
function inflate(stored: Uint8Array, textBytes: number, options: ZlibOptions): Uint8Array {
  let result: { readonly buffer: Buffer; readonly engine: { readonly bytesWritten: number } };
  try {
    // With `info` the result has another type than is declared.
    result = inflateSync(stored, {
      ...options,
      maxOutputLength: textBytes + 1,
      info: true,
    }) as unknown as typeof result;
  } catch (cause) {
    throw malformed("its manifest cannot be inflated to the length that it states", cause);
  }
  if (result.buffer.length !== textBytes || result.engine.bytesWritten !== stored.length) {
    throw malformed("its manifest does not have the length that it states");
  }
  return result.buffer;
}

function alignUp(offset: number, alignment: number): number {
  return Math.ceil(offset / alignment) * alignment;
}

export function malformed(what: string, cause?: unknown): AdapterError {
  const message = `the container cannot be read: ${what}; this is no *.cotenant file, or it is damaged: download or write it again`;
  return new AdapterError("container_malformed", message, { cause });
}
