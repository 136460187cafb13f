// ONNX Runtime's model builder (PyPI's onnxruntime-genai) in a virtual environment of its own in the prefix. It reads
// checkpoints with PyTorch, whose packages for Linux bring CUDA: 5.5 GB, some minutes, once.

import { existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runQuietly } from "./run-quietly.ts";

/** The builder is of one release, since its options are; what it imports is what is newest. */
const packages = ["onnxruntime-genai==0.18.0", "onnxruntime", "onnx", "onnx_ir", "torch", "transformers"];

/** @returns the path of the environment's interpreter */
export function installModelBuilder(prefix: string): string {
  const folder = join(prefix, "python");
  const python = join(folder, "bin/python");
  const isDone = join(folder, "model-builder"); // an environment cannot be moved, so its end is marked
  if (existsSync(isDone)) return python;
  rmSync(folder, { recursive: true, force: true });
  const log = join(prefix, "model-builder.log");
  runQuietly(["python3", "-m", "venv", folder], log);
  console.error("installing the ONNX model builder with PyTorch (5.5 GB, some minutes) ...");
  runQuietly([python, "-m", "pip", "install", "--no-compile", ...packages], log);
  writeFileSync(isDone, "");
  return python;
}
