// Opens a checkpoint for training without a serving session.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { openCheckpointWeights } from "../../kernels/checkpoint/weights.ts";
import { Embeddings } from "../../kernels/embeddings.ts";
import { RawConfig } from "../../kernels/model-config.ts";
import { familyOf } from "../../kernels/models/index.ts";
import { type MatrixEncoding, planLayout } from "../../kernels/prepare/layout.ts";
import { dataFileName, prepareWeights } from "../../kernels/prepare/prepare-weights.ts";
import type { TrainingBase } from "../../kernels/training/training-kernel.ts";

export async function openTrainingBase(
  modelDirectory: string,
  cacheDirectory: string,
  encoding: MatrixEncoding,
): Promise<TrainingBase> {
  const path = join(modelDirectory, "config.json");
  const raw = new RawConfig(JSON.parse(readFileSync(path, "utf8")), path);
  const family = familyOf(raw.string("model_type"));
  const config = family.config(raw);
  const layers = Array.from({ length: config.layers }, (_, index) => family.layer(config, index, raw));
  const layout = planLayout({ config, normOffset: family.normOffset, layers, encoding });
  using weights = openCheckpointWeights(modelDirectory);
  const key = `${modelDirectory.replaceAll(/[^\w-]/g, "_")}-${encoding}`;
  const onProgress = () => undefined;
  const directory = await prepareWeights({
    modelDirectory,
    cacheDirectory,
    key,
    layout,
    threads: 1,
    onProgress,
  });
  return {
    config,
    layout,
    dataPath: join(directory, dataFileName),
    embeddings: new Embeddings(weights, config),
  };
}
