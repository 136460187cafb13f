// Where a row's bits were measured not to depend on its batch (docs/quantization.md): there tests demand it.

import { processorHas } from "../kernels/cpu/processor.ts";

export const isMeasuredProcessor = processorHas("avx512_vnni");
