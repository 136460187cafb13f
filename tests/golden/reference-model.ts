// Opens a checkpoint directory for the slow forward pass of kernels/reference.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { openCheckpointWeights } from "../../kernels/checkpoint/weights.ts";
import { RawConfig } from "../../kernels/model-config.ts";
import { familyOf } from "../../kernels/models/index.ts";
import type { ReferenceModel } from "../../kernels/reference/forward.ts";

export function openReference(directory: string): ReferenceModel & Disposable {
  const path = join(directory, "config.json");
  const raw = new RawConfig(JSON.parse(readFileSync(path, "utf8")), path);
  const family = familyOf(raw.string("model_type"));
  const config = family.config(raw);
  const layers = Array.from({ length: config.layers }, (_, index) => family.layer(config, index, raw));
  const weights = openCheckpointWeights(directory);
  return { config, layers, normOffset: family.normOffset, weights, [Symbol.dispose]: () => weights.close() };
}
