// A minimal protocol-buffers writer: exactly the wire types that ONNX files need. Knows no ONNX.
// Wire format: https://protobuf.dev/programming-guides/encoding/

const encoder = new TextEncoder();

/** Appends fields of one message; nested messages are built apart and appended as bytes. */
export class MessageWriter {
  readonly #parts: Uint8Array[] = [];
  #length = 0;

  /** int32, int64, bool and enum fields; negative values take ten bytes as the format demands. */
  integer(field: number, value: number | bigint): this {
    this.#append(varint((BigInt(field) << 3n) | 0n));
    this.#append(varint(BigInt.asUintN(64, BigInt(value))));
    return this;
  }

  float(field: number, value: number): this {
    this.#append(varint((BigInt(field) << 3n) | 5n));
    this.#append(new Uint8Array(new Float32Array([value]).buffer));
    return this;
  }

  bytes(field: number, value: Uint8Array): this {
    this.#append(varint((BigInt(field) << 3n) | 2n));
    this.#append(varint(BigInt(value.byteLength)));
    this.#append(value);
    return this;
  }

  string(field: number, value: string): this {
    return this.bytes(field, encoder.encode(value));
  }

  message(field: number, value: MessageWriter): this {
    return this.bytes(field, value.finish());
  }

  finish(): Uint8Array {
    const out = new Uint8Array(this.#length);
    let offset = 0;
    for (const part of this.#parts) {
      out.set(part, offset);
      offset += part.byteLength;
    }
    return out;
  }

  #append(part: Uint8Array): void {
    this.#parts.push(part);
    this.#length += part.byteLength;
  }
}

function varint(value: bigint): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  while (rest > 0x7fn) {
    bytes.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}
