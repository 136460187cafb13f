// What the processor can do, by the names that Linux gives its instructions; other systems name none.

import { existsSync, readFileSync } from "node:fs";

const processorFile = "/proc/cpuinfo";

export function processorHas(feature: string): boolean {
  return existsSync(processorFile) && readFileSync(processorFile, "utf8").includes(feature);
}
