// How matrices are stored by what `--quantize` calls it.

import type { MatrixEncoding } from "../kernels/prepare/layout.ts";
import type { Quantization } from "./protocol.ts";

export const encodings = {
  int4: "int4",
  int8: "int8",
  f16: "float16",
  none: "float32",
} as const satisfies Record<Quantization, MatrixEncoding>;
