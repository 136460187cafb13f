// What the writers of an answer's choices make of its pieces, gathered per choice until the last piece.

import type { ChoicePiece } from "./choice.ts";

type Writer<Part> = { write(piece: ChoicePiece): Part | null | undefined };

export async function collectParts<Part>(
  pieces: AsyncIterable<readonly [index: number, piece: ChoicePiece]>,
  writers: readonly Writer<Part>[],
): Promise<Part[][]> {
  const parts: Part[][] = writers.map(() => []);
  for await (const [index, piece] of pieces) {
    const part = writers[index]!.write(piece);
    if (part) parts[index]!.push(part);
  }
  return parts;
}
