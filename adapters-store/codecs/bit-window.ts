// Reading a string of bits that fills each byte from its highest bit.

/** Of a window's 32 bits, those that are valid wherever in a byte it begins. */
export const windowBits = 25;

/** A copy with bytes to spare, so that every window that begins inside or just behind the bytes is whole. */
export function windowsOf(bytes: Uint8Array): DataView {
  const padded = new Uint8Array(bytes.length + 4);
  padded.set(bytes);
  return new DataView(padded.buffer);
}

/** The bits from `position` on, the next one highest; one big-endian read is what makes decoding fast. */
export function windowAt(windows: DataView, position: number): number {
  return windows.getInt32(position >>> 3) << (position & 7);
}
