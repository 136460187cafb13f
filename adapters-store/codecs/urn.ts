// Urn codes: which values of a ternary tensor are not zero, and their signs, close to the entropy at any density and
// below it where entries crowd in some columns, as those of trained adapters do. Values are taken column by column, in
// groups of 16. A group is how many of its values are not zero, by rANS (Duda 2013) with one of `urnTables`, then which
// ones, an index among the arrangements of so many (Cover 1973), then their signs.
//
//   u8 32 + table | u24 state, big-endian, and rANS's bytes | of each group in bits: arrangement, signs

import { windowAt, windowsOf } from "./bit-window.ts";
import { malformedTensor } from "./tensor-codec.ts";
import { arrangements, countBits, countTotal, groupSize, urnTables } from "./urn-tables.ts";

export const firstUrnForm = 32;
/** What the magnitude is stored in: a float's upper half without its sign, as the state that rANS begins with. */
export const magnitudeBits = 15;

const lowestState = 1 << 15;

/** Sets of values in a group as bits, by how many they are and then by size; those of a count begin at its start. */
const sets = Uint16Array.from({ length: 1 << groupSize }, (_, set) => set).sort(
  (one, other) => sizeOf(one) - sizeOf(other) || one - other,
);
const starts = startsOf(arrangements);
const indexOfSet = new Uint16Array(sets.length);
for (const [at, set] of sets.entries()) indexOfSet[set] = at - starts[sizeOf(set)]!;

/** Arrangements are no power of two: the first `shorter` indices take `width` bits, the others one more. */
const codes = arrangements.map((ways) => {
  const width = Math.floor(Math.log2(ways));
  return { width, shorter: 2 ** (width + 1) - ways };
});

export type TernaryEntries = {
  readonly magnitude: number; // 15 bits, as above
  readonly places: Uint32Array; // ascending, of values that are not zero
  readonly isNegative: (place: number) => boolean;
};

/** How values lie: `count` of them in rows of equal length. */
export type TensorSize = { readonly count: number; readonly rows: number };

export function encodeUrn({ magnitude, places, isNegative }: TernaryEntries, size: TensorSize): Uint8Array {
  const { rows } = size;
  const columns = size.count / rows;
  const groups = Math.ceil(size.count / groupSize);
  const marked = new Uint16Array(groups);
  const negative = new Uint16Array(groups);
  for (const place of places) {
    const at = (place % columns) * rows + Math.floor(place / columns);
    const bit = 1 << (at % groupSize);
    marked[Math.floor(at / groupSize)]! |= bit;
    if (isNegative(place)) negative[Math.floor(at / groupSize)]! |= bit;
  }
  const counts = Uint8Array.from(marked, sizeOf);
  const table = cheapestTable(counts);
  return Buffer.concat([
    Uint8Array.of(firstUrnForm + table),
    encodeCounts(counts, urnTables[table]!, lowestState + magnitude),
    encodeArrangements(marked, negative),
  ]);
}

/** @param bytes whose first names a table. Throws AdapterError `container_tensor_malformed`. */
export function decodeUrn(bytes: Uint8Array, { count, rows }: TensorSize): Float32Array<ArrayBuffer> {
  const { counts, state, end } = decodeCounts(bytes, Math.ceil(count / groupSize));
  const values = new Float32Array(count);
  const words = new Int32Array(values.buffer); // signs are set as bits: nobody can predict a branch on them
  const magnitude = (state - lowestState) << 16;
  const offsets = new GroupOffsets(rows, count / rows);
  const windows = windowsOf(bytes.subarray(end));
  const endBit = (bytes.length - end) * 8;
  let position = 0;
  for (let group = 0; group < counts.length; group++) {
    const size = counts[group]!;
    if (size === 0) continue;
    let window = windowAt(windows, position); // at most 24 bits of it are the group's
    const { width, shorter } = codes[size]!;
    let index = width === 0 ? 0 : window >>> (32 - width);
    let used = width;
    if (index >= shorter) {
      index = index * 2 - shorter + ((window >>> (31 - width)) & 1);
      used++;
    }
    position += used + size;
    if (position > endBit) throw malformedTensor("the signs go on after the tensor's end");
    window <<= used;
    const first = group * groupSize;
    const column = Math.floor(first / rows);
    offsets.beginAt(first - column * rows);
    let set = sets[starts[size]! + index]!;
    if (first + groupSize > count && set >>> (count - first) !== 0) {
      throw malformedTensor(`a position is not below ${count}`);
    }
    for (; set !== 0; set &= set - 1) {
      words[column + offsets.places[31 - Math.clz32(set & -set)]!] = magnitude | (window & 0x8000_0000);
      window <<= 1;
    }
  }
  if (endBit - position >= 8) throw malformedTensor("bytes follow the last sign");
  return values;
}

/** Where a group's values are in a tensor of rows, from the first row of the group's first column on. */
class GroupOffsets {
  readonly places = new Uint32Array(groupSize);
  readonly #rows: number;
  readonly #columns: number;
  #row = -1;

  constructor(rows: number, columns: number) {
    this.#rows = rows;
    this.#columns = columns;
  }

  /** @param row of the group's first value. That all groups begin in one row is the most frequent case. */
  beginAt(row: number): void {
    if (row === this.#row) return;
    this.#row = row;
    for (let bit = 0, column = 0; bit < groupSize; bit++, row++) {
      if (row === this.#rows) {
        row = 0;
        column++;
      }
      this.places[bit] = row * this.#columns + column;
    }
  }
}

/** rANS writes backwards: what is read first is coded last. */
function encodeCounts(counts: Uint8Array, table: Uint16Array, firstState: number): Uint8Array {
  const below = startsOf(table);
  const reversed: number[] = [];
  let state = firstState;
  for (let group = counts.length - 1; group >= 0; group--) {
    const frequency = table[counts[group]!]!;
    const limit = frequency * ((lowestState / countTotal) * 256);
    for (; state >= limit; state >>>= 8) reversed.push(state & 255);
    state = Math.floor(state / frequency) * countTotal + (state % frequency) + below[counts[group]!]!;
  }
  reversed.push(state & 255, (state >>> 8) & 255, state >>> 16);
  return Uint8Array.from(reversed.reverse());
}

function decodeCounts(
  bytes: Uint8Array,
  groups: number,
): { readonly counts: Uint8Array; readonly state: number; readonly end: number } {
  const table = urnTables[bytes[0]! - firstUrnForm];
  if (table === undefined) throw malformedTensor(`no positions are stored in the form ${bytes[0]}`);
  if (bytes.length < 4) throw malformedTensor(`urn codes have ${bytes.length} bytes`);
  const below = startsOf(table);
  const countAt = new Uint8Array(countTotal);
  for (const [count, from] of below.entries()) countAt.fill(count, from, from + table[count]!);
  const counts = new Uint8Array(groups);
  let state = (bytes[1]! << 16) | (bytes[2]! << 8) | bytes[3]!;
  if (state < lowestState || state >= lowestState * 256) {
    throw malformedTensor(`urn codes begin with the state ${state}`);
  }
  let end = 4;
  for (let group = 0; group < groups; group++) {
    const slot = state & (countTotal - 1);
    const count = countAt[slot]!;
    counts[group] = count;
    state = table[count]! * (state >>> countBits) + slot - below[count]!;
    while (state < lowestState) {
      if (end === bytes.length) throw malformedTensor("the counts go on after the tensor's end");
      state = (state << 8) | bytes[end++]!;
    }
  }
  if (state >= 2 * lowestState) throw malformedTensor(`urn codes end with the state ${state}`);
  return { counts, state, end };
}

function encodeArrangements(marked: Uint16Array, negative: Uint16Array): Uint8Array {
  const bytes = new Uint8Array(marked.length * 3 + 4); // 24 bits at most for each, and room to write words
  const view = new DataView(bytes.buffer);
  let position = 0;
  const append = (value: number, width: number) => {
    const at = position >>> 3;
    view.setUint32(at, view.getUint32(at) | (value << (32 - width - (position & 7))));
    position += width;
  };
  for (const [group, set] of marked.entries()) {
    if (set === 0) continue;
    const { width, shorter } = codes[sizeOf(set)]!;
    const index = indexOfSet[set]!;
    if (index < shorter) append(index, width);
    else append(index + shorter, width + 1);
    for (let rest = set; rest !== 0; rest &= rest - 1) {
      append((negative[group]! & rest & -rest) === 0 ? 0 : 1, 1);
    }
  }
  return bytes.subarray(0, Math.ceil(position / 8));
}

function cheapestTable(counts: Uint8Array): number {
  const histogram = new Float64Array(groupSize + 1);
  for (const count of counts) histogram[count]!++;
  const bitsOf = (table: Uint16Array) =>
    histogram.reduce((sum, times, count) => sum - times * Math.log2(table[count]! / countTotal), 0);
  const bits = urnTables.map(bitsOf);
  return bits.indexOf(Math.min(...bits));
}

/** Of each, what those before it add up to. */
function startsOf(sizes: ArrayLike<number>): Uint32Array {
  const starts = new Uint32Array(sizes.length);
  for (let i = 1; i < starts.length; i++) starts[i] = starts[i - 1]! + sizes[i - 1]!;
  return starts;
}

function sizeOf(set: number): number {
  let size = 0;
  for (let rest = set; rest !== 0; rest &= rest - 1) size++;
  return size;
}
