// Why `--device cuda` is refused, and what to do instead: the runtime's npm package has no CUDA libraries unless they
// were fetched when it was installed, and even then Node's binding keeps no tensors on that device between steps.

import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { CotenantError } from "../errors.ts";

const library = "libonnxruntime_providers_cuda.so";

export function cudaRefusal(): CotenantError {
  const remedy = "serve NVIDIA GPUs with --device webgpu, which needs the driver and nothing else";
  const problem = hasCudaLibraries()
    ? "onnxruntime-node has the CUDA provider here, but its Node binding keeps no keys and values on that device, so this version does not serve with it"
    : `onnxruntime-node has no CUDA provider here (${library} is missing; on Linux x64, "npm rebuild onnxruntime-node" without onnxruntime-node-install=skip in .npmrc fetches it, beside CUDA 12 and cuDNN 9 of the system), and this version would not serve with it yet`;
  return new CotenantError("device_not_available", `--device cuda: ${problem}; ${remedy}`);
}

function hasCudaLibraries(): boolean {
  const entry = createRequire(import.meta.url).resolve("onnxruntime-node/package.json");
  const folder = join(dirname(entry), "bin", "napi-v6", process.platform, process.arch);
  return existsSync(join(folder, library));
}
