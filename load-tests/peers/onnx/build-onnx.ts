// A checkpoint as transformers.js reads it: the directory's configuration and tokenizer, and ONNX Runtime's own model
// builder's graph of it under onnx/.

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { installModelBuilder } from "../install/model-builder.ts";
import { runQuietly } from "../install/run-quietly.ts";

export type OnnxPrecision = "int4" | "int8" | "fp32";

/** How transformers.js calls the graphs, and their files' names. */
export const onnxDtypes = {
  int4: { dtype: "q4", file: "model_q4.onnx" },
  int8: { dtype: "q8", file: "model_quantized.onnx" },
  fp32: { dtype: "fp32", file: "model.onnx" },
} as const satisfies Record<OnnxPrecision, object>;

/** All matrices alike, the head too; logits of the last token only. */
const options = ["block_size=32", "accuracy_level=4", "prune_lm_head=true"];
const script = fileURLToPath(new URL("number-head-size.py", import.meta.url));

export function buildOnnx(
  checkpoint: string,
  directory: string,
  { prefix, precision }: { readonly prefix: string; readonly precision: OnnxPrecision },
): void {
  const python = installModelBuilder(prefix);
  const graphs = join(directory, "onnx");
  mkdirSync(graphs, { recursive: true });
  const log = join(prefix, "model-builder.log");
  const flags = ["-i", checkpoint, "-o", graphs, "-p", precision, "-e", "cpu"];
  const cache = ["-c", join(prefix, "model-builder-cache")];
  runQuietly(
    [python, "-m", "onnxruntime_genai.models.builder", ...flags, ...cache, "--extra_options", ...options],
    log,
  );
  const graph = join(graphs, onnxDtypes[precision].file);
  renameSync(join(graphs, "model.onnx"), graph);
  execFileSync(python, [script, graph, join(checkpoint, "config.json")], { stdio: ["ignore", 2, 2] });
  for (const file of readdirSync(checkpoint).filter((name) => name.endsWith(".json")))
    copyFileSync(join(checkpoint, file), join(directory, file));
}
