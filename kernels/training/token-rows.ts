// Rows of tokens as they come window by window, put together and summed.

import { freeOutput } from "../session.ts";

export type Rows = Float32Array<ArrayBuffer>; // [tokens, width]

/**
 * Puts rows where they belong among all; both arrays are no longer the caller's.
 * @param all empty where there is one window only
 * @returns the array that holds them: rows of everything stay where they are
 */
export function withRows(all: Rows, at: number, rows: Rows): Rows {
  const isAll = all.length === 0 || rows.length === all.length;
  if (!isAll) all.set(rows, at);
  freeOutput(isAll ? all : rows);
  return isAll ? rows : all;
}

/** All windows' rows; they are no longer the caller's. */
export function joined(windows: readonly Rows[]): Rows {
  const [first] = windows;
  if (windows.length === 1) return first!;
  const all = new Float32Array(windows.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const rows of windows) {
    all.set(rows, at);
    at += rows.length;
    freeOutput(rows);
  }
  return all;
}

export function addTo(sum: Float32Array | Float64Array, addend: Float32Array): void {
  for (let i = 0; i < addend.length; i++) sum[i]! += addend[i]!;
}
