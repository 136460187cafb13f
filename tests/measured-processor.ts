// Where a row's bits were measured not to depend on its batch (docs/quantization.md): there tests demand it.

import { existsSync, readFileSync } from "node:fs";

const cpuInfo = "/proc/cpuinfo";

export const isMeasuredProcessor =
  existsSync(cpuInfo) && readFileSync(cpuInfo, "utf8").includes("avx512_vnni");
