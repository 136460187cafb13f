// How rows share copies of adapters in a decode step. Reading a slot's weights from memory is dear, reading them
// again for another row of the same slot is cheap, but every slot of a step is read for equally many rows, used or
// not. What is chosen changes the speed and no bit of the results. Pure.

import type { BankCopy } from "../held-copies.ts";
import type { BankReaders } from "./adapter-feeds.ts";

/** Time of one more row on a slot whose weights are in the processor's cache, against bringing them there. */
const cachedReadCost = 0.5;

/**
 * Decides how many rows a slot serves, and which rows each copy of an adapter serves.
 * @param versions adapter version of each row
 */
export function assignSlots(versions: readonly (string | null)[]): {
  readers: BankReaders[];
  rowsPerSlot: number;
} {
  const rowsOf = new Map<string, number[]>();
  for (const [row, version] of versions.entries()) {
    if (version === null) continue;
    const rows = rowsOf.get(version);
    if (rows === undefined) rowsOf.set(version, [row]);
    else rows.push(row);
  }
  const rowsPerSlot = cheapestRowsPerSlot([...rowsOf.values()].map((rows) => rows.length));
  const readers: BankReaders[] = [];
  for (const [version, rows] of rowsOf) {
    for (let copy = 0; copy * rowsPerSlot < rows.length; copy++) {
      const bankCopy: BankCopy = { version, copy };
      readers.push({ copy: bankCopy, rows: rows.slice(copy * rowsPerSlot, (copy + 1) * rowsPerSlot) });
    }
  }
  return { readers, rowsPerSlot };
}

/** @param counts rows of each version */
function cheapestRowsPerSlot(counts: readonly number[]): number {
  let best = 1;
  let bestCost = Number.POSITIVE_INFINITY;
  for (let rowsPerSlot = 1; rowsPerSlot <= Math.max(1, ...counts); rowsPerSlot++) {
    const copies = counts.reduce((sum, count) => sum + Math.ceil(count / rowsPerSlot), 0);
    const cost = copies * (1 + rowsPerSlot * cachedReadCost);
    if (cost >= bestCost) continue;
    best = rowsPerSlot;
    bestCost = cost;
  }
  return best;
}
