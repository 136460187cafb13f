// Rows of tokens as they come window by window, put together and summed.

import { freeOutput } from "../session.ts";
import type { TokenRange } from "./token-layout.ts";

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

/** A row from a place to another one. */
type Move = { readonly from: number; readonly to: number };
type ChosenTokens = { readonly tokens: readonly number[]; readonly width: number };

/** Some tokens' rows, in windows of their own; the windows given are no longer the caller's. */
export function gathered(
  windows: readonly Rows[],
  chosen: ChosenTokens,
  into: readonly TokenRange[],
): Rows[] {
  const places = chosen.tokens.map((token, index) => ({ from: token, to: index }));
  return moved(windows, { ...chosen, places }, into);
}

/** The way back: zeros where no token was chosen. */
export function scattered(
  windows: readonly Rows[],
  chosen: ChosenTokens,
  into: readonly TokenRange[],
): Rows[] {
  const places = chosen.tokens.map((token, index) => ({ from: index, to: token }));
  return moved(windows, { ...chosen, places }, into);
}

function moved(
  windows: readonly Rows[],
  { places, width }: { readonly places: readonly Move[]; readonly width: number },
  into: readonly TokenRange[],
): Rows[] {
  const all = joined(windows);
  const rows = new Float32Array((into.at(-1)?.to ?? 0) * width);
  for (const { from, to } of places) rows.set(all.subarray(from * width, (from + 1) * width), to * width);
  freeOutput(all);
  return into.map(({ from, to }) => rows.slice(from * width, to * width));
}

export function addTo(sum: Float32Array | Float64Array, addend: Float32Array): void {
  for (let i = 0; i < addend.length; i++) sum[i]! += addend[i]!;
}
