// What tests may demand of the processor that they run on.

import { processorHas } from "../kernels/cpu/processor.ts";

/** Where a row's bits were measured not to depend on its batch (docs/quantization.md). */
export const isMeasuredProcessor = processorHas("avx512_vnni");

/** Why products in whole rows (kernels/training/integer-rows.ts) are not tried here; false where they are. */
export const skipsRowCoding = !processorHas("vnni") && "without VNNI or AMX its sums overflow";
