// Writes a safetensors file tensor by tensor: only what one tensor's provider yields is in memory at a time.

import { closeSync, openSync, writeSync } from "node:fs";
import { type Dtype, dtypeBits } from "./safetensors-header.ts";

export type TensorSource = {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** Called once, in the order of the file; the pieces' bytes must add up to the shape's. */
  readonly pieces: () => Iterable<ArrayBufferView>;
};

/** Replaces `path`. The caller makes it durable and atomic where that matters. */
export function writeSafetensors(
  path: string,
  tensors: readonly TensorSource[],
  metadata: Readonly<Record<string, string>> = { format: "pt" },
): void {
  const fd = openSync(path, "w");
  try {
    writeFully(fd, encodeHeader(tensors, metadata));
    for (const tensor of tensors) {
      let written = 0;
      for (const piece of tensor.pieces()) {
        writeFully(fd, new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength));
        written += piece.byteLength;
      }
      if (written !== sizeBytes(tensor)) {
        throw new RangeError(`"${tensor.name}" gave ${written} bytes instead of ${sizeBytes(tensor)}`);
      }
    }
  } finally {
    closeSync(fd);
  }
}

/** A tensor whose values are in memory already. */
export function tensorOf(
  name: string,
  shape: readonly number[],
  values: Float32Array | Uint16Array,
): TensorSource {
  // 16-bit words are taken for bfloat16, which is what published checkpoints hold.
  const dtype = values instanceof Float32Array ? "F32" : "BF16";
  return { name, dtype, shape, pieces: () => [values] };
}

function encodeHeader(
  tensors: readonly TensorSource[],
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  let end = 0;
  const entries = tensors.map((tensor) => {
    const begin = end;
    end += sizeBytes(tensor);
    return [tensor.name, { dtype: tensor.dtype, shape: tensor.shape, data_offsets: [begin, end] }];
  });
  const json = Buffer.from(JSON.stringify({ __metadata__: metadata, ...Object.fromEntries(entries) }));
  const paddedBytes = Math.ceil(json.length / 8) * 8; // so that tensors are aligned in a mapped file
  const header = Buffer.alloc(8 + paddedBytes, " ");
  header.writeBigUInt64LE(BigInt(paddedBytes));
  json.copy(header, 8);
  return header;
}

function sizeBytes({ shape, dtype }: TensorSource): number {
  return shape.reduce((product, size) => product * size, dtypeBits[dtype] / 8);
}

function writeFully(fd: number, bytes: Uint8Array): void {
  let done = 0;
  while (done < bytes.length) done += writeSync(fd, bytes, done, bytes.length - done);
}
