// One random checkpoint of a shape and its adapters in everybody's format, made once in the prefix.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import { projections } from "../../kernels/adapter.ts";
import { describeCheckpoint } from "../../kernels/base-model.ts";
import { makeAdapter } from "../../scripts/make-adapter.ts";
import { makeModel } from "../../scripts/make-model.ts";
import { type ModelShapeName, modelShapes } from "../../scripts/model-shapes.ts";
import { mostClients } from "./cells.ts";
import type { Converted, GgufType } from "./contestant.ts";
import { convertAdapter } from "./gguf/convert-adapter.ts";
import { convertModel } from "./gguf/convert-model.ts";
import { llamaCommand } from "./install/llama-cpp.ts";
import { buildOnnx, type OnnxPrecision } from "./onnx/build-onnx.ts";

const rank = 16;

export function convert(shape: ModelShapeName, prefix: string): Converted {
  const folder = join(prefix, "models");
  mkdirSync(folder, { recursive: true });
  const checkpoint = once(join(folder, shape), (directory) =>
    makeModel({ shape: modelShapes[shape], directory, seed: 0 }),
  );
  const { config } = describeCheckpoint(checkpoint);
  const adapterNames = Array.from({ length: mostClients }, (_, index) => `adapter-${index}`);
  const adapters = once(join(folder, `${shape}-adapters`), (directory) => {
    for (const [seed, name] of adapterNames.entries()) {
      const target = join(directory, name);
      makeAdapter({ modelDirectory: checkpoint, rank, targets: projections, directory: target, seed });
    }
  });
  const base = { modelType: config.family, headDim: config.headDim };
  const ggufAdapters = adapterNames.map((name) =>
    once(join(folder, `${shape}-${name}.gguf`), (path) => convertAdapter(join(adapters, name), path, base)),
  );
  const source = () => once(join(folder, `${shape}.gguf`), (path) => convertModel(checkpoint, path));
  const gguf = (type: GgufType) =>
    once(join(folder, `${shape}-${type}.gguf`), (path) => {
      // --pure: all matrices alike; without it the head would have more bits than ours.
      const args = ["--pure", source(), path, type, "2"];
      const [file, ...command] = [...llamaCommand(prefix, "llama-quantize"), ...args];
      execFileSync(file!, command, { stdio: "ignore" });
    });
  const onnx = (precision: OnnxPrecision) =>
    once(join(folder, `${shape}-onnx-${precision}`), (directory) =>
      buildOnnx(checkpoint, directory, { prefix, precision }),
    );
  return { shape, checkpoint, adapters, adapterNames, ggufAdapters, gguf, onnx };
}

/** What was interrupted leaves nothing under the final name. */
function once(path: string, make: (path: string) => void): string {
  if (existsSync(path)) return path;
  const unfinished = `${path}.unfinished`;
  make(unfinished);
  renameSync(unfinished, path);
  return path;
}
