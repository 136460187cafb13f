// The registry of model families, keyed by config.json's model_type.

import { CheckpointError } from "../errors.ts";
import type { ModelFamily } from "../model-family.ts";
import { gemma3 } from "./gemma3.ts";
import { llama } from "./llama.ts";
import { mistral } from "./mistral.ts";
import { phi3 } from "./phi3.ts";
import { qwen2 } from "./qwen2.ts";
import { qwen3 } from "./qwen3.ts";

export const modelFamilies = {
  llama,
  mistral,
  qwen2,
  qwen3,
  gemma3_text: gemma3,
  phi3,
} as const satisfies Record<string, ModelFamily>;

/** @throws CheckpointError `unknown_model_type` */
export function familyOf(modelType: string): ModelFamily {
  if (Object.hasOwn(modelFamilies, modelType)) return modelFamilies[modelType as keyof typeof modelFamilies];
  throw new CheckpointError(
    "unknown_model_type",
    `config.json: model_type "${modelType}" is not served; known are ${Object.keys(modelFamilies).join(", ")}`,
  );
}
