// The contract of a tensor codec: one tensor's bytes in a container, back to its values. A new codec is one file
// and one line in index.ts. Codecs know no shapes, modules or files; docs/container.md describes their bytes.

import { AdapterError } from "../../kernels/errors.ts";

export type Floats = Float32Array<ArrayBuffer>;
export type Indices = Uint32Array<ArrayBuffer>;

/** What the tensors of one container have in common: the steps of its seed ledger. */
export type SharedLedger = {
  readonly bytes: Uint8Array; // empty where there is none
  readonly first: number; // place of the tensor's first value among all values that the ledger makes
};

export type TensorContext = {
  readonly rows: number; // of the tensor's shape; divides the number of its values
  readonly ledger: SharedLedger;
};

export type TensorCodec<Values> = {
  /** Every value that is not zero has the same magnitude: where one is finite, all are. */
  readonly hasOneMagnitude?: true;

  /**
   * Checks the lengths before it allocates `count` values. Throws AdapterError `container_tensor_malformed`.
   * Values may be infinite; the caller looks.
   */
  readonly decode: (bytes: Uint8Array, count: number, context: TensorContext) => Values;

  /** As `decode`, of bytes that are nobody else's and begin their buffer: their memory becomes the values'. */
  readonly adopt?: (bytes: Uint8Array<ArrayBuffer>, count: number) => Values;
};

export function malformedTensor(what: string): AdapterError {
  return new AdapterError(
    "container_tensor_malformed",
    `${what}; the container was written wrongly: write it again`,
  );
}

export function assertLength(bytes: Uint8Array, expected: number): void {
  if (bytes.length === expected) return;
  throw malformedTensor(`a tensor has ${bytes.length} bytes where its values take ${expected}`);
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** `count` 16-bit words from `offset` on, copied where they are not aligned. */
export function words16(bytes: Uint8Array, offset: number, count: number): Uint16Array {
  const piece = bytes.subarray(offset, offset + count * 2);
  const aligned = piece.byteOffset % 2 === 0 ? piece : new Uint8Array(piece); // a Buffer's slice is a view
  return new Uint16Array(aligned.buffer, aligned.byteOffset, count);
}

/** The bytes of any array, uncopied. */
export function bytesOf(values: ArrayBufferView): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
