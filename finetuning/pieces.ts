// Work of a job that is cut into pieces, so that others may have a turn between any two: run as units, or all at once
// where nobody may.

import { type TrainingUnit, updateUnit } from "../kernels/training/training-pass.ts";

/** Yields the size of each piece, in what the work counts. The result does not depend on who runs it how. */
export type Pieces<Result> = Generator<number, Result, void>;

/** @param unitSize that a unit ends at */
export function* inUnits<Result>(
  pieces: Pieces<Result>,
  unitSize: number,
): Generator<TrainingUnit, Result, void> {
  const results: Result[] = []; // one, in the end
  const run = () => {
    for (let size = 0; size < unitSize && results.length === 0; ) {
      const piece = pieces.next();
      if (piece.done) results.push(piece.value);
      else size += piece.value;
    }
  };
  while (results.length === 0) yield updateUnit(run);
  return results[0]!;
}

export function atOnce<Result>(pieces: Pieces<Result>): Result {
  for (;;) {
    const piece = pieces.next();
    if (piece.done) return piece.value;
  }
}
