// Reads tables of a FlatBuffers file by field number (https://flatbuffers.dev/internals). What points outside of the
// file throws RangeError.

export class FlatTable {
  readonly #view: DataView;
  readonly #at: number;

  constructor(view: DataView, at: number) {
    this.#view = view;
    this.#at = at;
  }

  /** The file's root. */
  static root(view: DataView): FlatTable {
    return new FlatTable(view, view.getUint32(0, true));
  }

  /** Zero, the schema's default, where the field is not stored. */
  int32(field: number): number {
    const at = this.#find(field);
    return at === null ? 0 : this.#view.getInt32(at, true);
  }

  /** Longer than `maxBytes` throws RangeError as well: overlapping strings would multiply a file's size. */
  string(field: number, maxBytes: number): string {
    if (this.length(field) > maxBytes) throw new RangeError("a name that long");
    return Buffer.from(this.bytes(field)).toString("utf8");
  }

  /** Elements of a vector of bytes. */
  length(field: number): number {
    return this.#vector(field, 1).length;
  }

  /** A copy of a vector of bytes. */
  bytes(field: number): Uint8Array<ArrayBuffer> {
    const { at, length } = this.#vector(field, 1);
    return new Uint8Array(this.#view.buffer as ArrayBuffer, this.#view.byteOffset + at, length).slice();
  }

  /** A vector of at most `maxLength` 64-bit numbers. */
  int64s(field: number, maxLength: number): number[] {
    const { at, length } = this.#vector(field, 8);
    if (length > maxLength) throw new RangeError("too many numbers");
    return Array.from({ length }, (_, i) => Number(this.#view.getBigInt64(at + i * 8, true)));
  }

  *tables(field: number): Generator<FlatTable> {
    const { at, length } = this.#vector(field, 4);
    for (let i = 0; i < length; i++) {
      const element = at + i * 4;
      yield new FlatTable(this.#view, element + this.#view.getUint32(element, true));
    }
  }

  #vector(field: number, elementBytes: number): { readonly at: number; readonly length: number } {
    const found = this.#find(field);
    if (found === null) return { at: 0, length: 0 };
    const start = found + this.#view.getUint32(found, true);
    const length = this.#view.getUint32(start, true);
    if (start + 4 + length * elementBytes > this.#view.byteLength) throw new RangeError("past the end");
    return { at: start + 4, length };
  }

  /** Where a field lies, by the table's list of offsets; null where it is not stored. */
  #find(field: number): number | null {
    const list = this.#at - this.#view.getInt32(this.#at, true);
    const entry = 4 + field * 2;
    if (entry + 2 > this.#view.getUint16(list, true)) return null;
    const offset = this.#view.getUint16(list + entry, true);
    return offset === 0 ? null : this.#at + offset;
  }
}
