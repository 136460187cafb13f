// The byte alphabet of byte-level BPE (GPT-2, Radford et al. 2019, `bytes_to_unicode`): every byte has a printable
// character, so that vocabularies are text files. Knows no tokenizer package.

function printableBytes(): number[] {
  const bytes: number[] = [];
  for (let byte = 0x21; byte <= 0x7e; byte++) bytes.push(byte);
  for (let byte = 0xa1; byte <= 0xac; byte++) bytes.push(byte);
  for (let byte = 0xae; byte <= 0xff; byte++) bytes.push(byte);
  return bytes;
}

function byteOfCharacter(): ReadonlyMap<string, number> {
  const map = new Map(printableBytes().map((byte) => [String.fromCharCode(byte), byte]));
  let next = 0x100;
  for (let byte = 0; byte < 0x100; byte++) {
    const character = String.fromCharCode(byte);
    if (!map.has(character)) map.set(String.fromCharCode(next++), byte);
  }
  return map;
}

const alphabet = byteOfCharacter();

/** The bytes that a vocabulary entry stands for, or null where it is not written in the byte alphabet. */
export function bytesOfByteLevelToken(token: string): Uint8Array | null {
  const bytes = new Uint8Array(token.length); // the alphabet has no surrogate pairs: one code unit, one byte
  for (let index = 0; index < token.length; index++) {
    const byte = alphabet.get(token[index]!);
    if (byte === undefined) return null;
    bytes[index] = byte;
  }
  return bytes;
}
