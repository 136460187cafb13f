// Which coding of matrices this processor multiplies fastest with: known by its instructions, not measured, so that a
// job that goes on has the products that it began with.

import { processorHas } from "../cpu/processor.ts";
import { blockCoding } from "./integer-blocks.ts";
import type { IntegerCoding } from "./integer-coding.ts";
import { rowCoding } from "./integer-rows.ts";

/** The runtime has tile instructions (AMX) for whole rows only; elsewhere blocks are as fast, and more exact. */
export function fastestCoding(): IntegerCoding {
  return processorHas("amx_int8") ? rowCoding : blockCoding;
}
