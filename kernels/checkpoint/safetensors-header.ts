// The header of a safetensors file: parsed and checked against the size of the file, no input or output here.
// Format: https://github.com/huggingface/safetensors#format. Stricter than the format's text where other
// readers are: no holes, no overlap, no duplicate keys, no bytes after the last tensor.

import { CheckpointError } from "../errors.ts";
import { findDuplicateKey } from "./duplicate-keys.ts";

/** Bits per value. Listing a type here lets a file hold it; what can be read is safetensors.ts's business. */
export const dtypeBits = {
  F64: 64,
  F32: 32,
  F16: 16,
  BF16: 16,
  F8_E4M3: 8,
  F8_E5M2: 8,
  I64: 64,
  I32: 32,
  I16: 16,
  I8: 8,
  U64: 64,
  U32: 32,
  U16: 16,
  U8: 8,
  BOOL: 8,
} as const;
export type Dtype = keyof typeof dtypeBits;

export type TensorInfo = {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly byteOffset: number; // from the start of the file
  readonly byteLength: number;
};

export type SafetensorsHeader = {
  readonly tensors: ReadonlyMap<string, TensorInfo>; // in file order
  readonly metadata: Readonly<Record<string, string>>;
};

export type HeaderSource = {
  readonly bytes: Uint8Array; // the JSON text alone, without the eight bytes of its length
  readonly fileBytes: number;
  readonly shownAs: string; // how errors name the file
};

/** Throws CheckpointError with a `safetensors_*` code that names the file and the tensor. */
export function parseSafetensorsHeader(source: HeaderSource): SafetensorsHeader {
  const { shownAs, fileBytes } = source;
  const { __metadata__: metadata = {}, ...entries } = parseJsonObject(source);
  if (!isRecord(metadata) || !Object.values(metadata).every((value) => typeof value === "string")) {
    throw malformed(shownAs, "__metadata__ is not a map of strings");
  }
  const dataStart = 8 + source.bytes.length;
  const tensors = Object.entries(entries)
    .map(([name, entry]) => parseTensor({ name, entry, dataStart, shownAs }))
    .sort((a, b) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  checkLayout(tensors, { dataStart, fileBytes, shownAs });
  return {
    tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])),
    metadata: metadata as Record<string, string>,
  };
}

function parseJsonObject({ bytes, shownAs }: HeaderSource): Record<string, unknown> {
  let text: string;
  let parsed: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    parsed = JSON.parse(text);
  } catch (cause) {
    throw malformed(shownAs, "the header is not JSON", cause);
  }
  if (!isRecord(parsed)) throw malformed(shownAs, "the header is not a JSON object");
  const duplicate = findDuplicateKey(text);
  if (duplicate !== undefined) {
    throw new CheckpointError(
      "safetensors_duplicate_key",
      `${shownAs}: the header holds ${shown(duplicate)} twice; save the file again with unique tensor names`,
    );
  }
  return parsed;
}

function parseTensor(given: {
  readonly name: string;
  readonly entry: unknown;
  readonly dataStart: number;
  readonly shownAs: string;
}): TensorInfo {
  const { name, entry, shownAs } = given;
  const where = `${shownAs}: tensor ${shown(name)}`;
  if (!isRecord(entry)) throw malformed(shownAs, `tensor ${shown(name)} is not described by an object`);
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== "string" || !Object.hasOwn(dtypeBits, dtype)) {
    throw new CheckpointError(
      "safetensors_bad_dtype",
      `${where} has the unknown type ${shown(dtype)}; convert the file to F32, F16 or BF16`,
    );
  }
  if (!Array.isArray(shape) || !shape.every(isSize)) {
    throw new CheckpointError(
      "safetensors_bad_shape",
      `${where} has the shape ${shown(shape)}, which is not a list of sizes; save the file again`,
    );
  }
  if (!isOffsetPair(offsets)) {
    throw new CheckpointError(
      "safetensors_bad_offsets",
      `${where} has the offsets ${shown(offsets)}, which are not a begin and an end; save the file again`,
    );
  }
  const byteLength = offsets[1] - offsets[0];
  const expectedBytes = shape.reduce(
    (product: number, size) => product * size,
    dtypeBits[dtype as Dtype] / 8,
  );
  if (byteLength !== expectedBytes) {
    throw new CheckpointError(
      "safetensors_bad_shape",
      `${where}: ${dtype} [${shape}] takes ${expectedBytes} bytes, but its offsets span ${byteLength}; save the file again`,
    );
  }
  return { name, dtype: dtype as Dtype, shape, byteOffset: given.dataStart + offsets[0], byteLength };
}

/** Tensors, sorted by offset, must fill the data section exactly. */
function checkLayout(
  tensors: readonly TensorInfo[],
  file: { readonly dataStart: number; readonly fileBytes: number; readonly shownAs: string },
): void {
  let end = file.dataStart;
  for (const { name, byteOffset, byteLength } of tensors) {
    if (byteOffset !== end) {
      const [code, relation] =
        byteOffset < end
          ? ["safetensors_overlap", "overlaps the tensor before it"]
          : ["safetensors_hole", "leaves unused bytes before it"];
      throw new CheckpointError(
        code!,
        `${file.shownAs}: tensor ${shown(name)} ${relation} (begins at byte ${byteOffset}, the last one ended at ${end}); save the file again`,
      );
    }
    end += byteLength;
    if (end > file.fileBytes) {
      throw new CheckpointError(
        "safetensors_truncated",
        `${file.shownAs}: tensor ${shown(name)} ends at byte ${end}, but the file has ${file.fileBytes}; download or copy it again`,
      );
    }
  }
  const last = tensors.at(-1);
  if (end !== file.fileBytes) {
    throw new CheckpointError(
      "safetensors_trailing_bytes",
      `${file.shownAs}: the last tensor${last === undefined ? "" : `, ${shown(last.name)},`} ends at byte ${end}, but the file has ${file.fileBytes}; download or copy it again`,
    );
  }
}

export function malformed(shownAs: string, what: string, cause?: unknown): CheckpointError {
  const message = `${shownAs}: ${what}; this is no safetensors file, or it is damaged: download it again`;
  return new CheckpointError("safetensors_malformed", message, { cause });
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isOffsetPair(value: unknown): value is [begin: number, end: number] {
  return Array.isArray(value) && value.length === 2 && value.every(isSize) && value[0]! <= value[1]!;
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** A bounded rendering of an untrusted value. */
export function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? "none";
  return text.length <= 100 ? text : `${text.slice(0, 100)}…`;
}
