// How rows share copies of adapters in a decode step. A slot that reads one row runs at memory speed; with more
// rows the matmul packs the weights first, dearer per byte but read once for all of them. Pure.

import type { BankCopy } from "./adapter-bank.ts";
import type { BankReaders } from "./adapter-feeds.ts";

/** What a byte of a slot costs when it serves several rows, against one row (docs/experiments.md). */
const sharedSlotCost = 3;

/**
 * Decides between one copy per row and one copy per version, for all slots of the step.
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
  const rowsWithAdapter = [...rowsOf.values()].reduce((sum, rows) => sum + rows.length, 0);
  const shared = rowsOf.size * sharedSlotCost < rowsWithAdapter;
  const rowsPerSlot = shared ? Math.max(...[...rowsOf.values()].map((rows) => rows.length)) : 1;
  const readers: BankReaders[] = [];
  for (const [version, rows] of rowsOf) {
    for (let copy = 0; copy * rowsPerSlot < rows.length; copy++) {
      const bankCopy: BankCopy = { version, copy };
      readers.push({ copy: bankCopy, rows: rows.slice(copy * rowsPerSlot, (copy + 1) * rowsPerSlot) });
    }
  }
  return { readers, rowsPerSlot };
}
