// The one tensor of methods with virtual tokens.

import { AdapterError } from "../../../kernels/errors.ts";
import type { PeftFields } from "./fields.ts";
import { type PeftAdapter, readTensor, weightsName } from "./tensors.ts";

const name = "prompt_embeddings";

/** Fields that all methods with virtual tokens have. Their shapes are checked against the base, not the config. */
export const virtualTokenFields = [
  "encoder_hidden_size",
  "num_attention_heads",
  "num_layers",
  "num_transformer_submodules",
  "num_virtual_tokens",
  "token_dim",
];

/** Throws AdapterError `no_modules_matched`, `module_not_supported`, `adapter_wrong_shape`, `non_finite_weights`. */
export function readPromptEmbeddings(
  { file, fields }: PeftAdapter,
  shape: readonly [number, number],
  axes: string,
): Float32Array<ArrayBuffer> {
  requireDecoder(fields);
  const others = [...file.tensors.keys()].filter((tensor) => tensor !== name);
  if (!file.tensors.has(name)) {
    throw new AdapterError(
      "no_modules_matched",
      `${weightsName} has no ${name}, but ${others.length} other tensors; save the adapter with PEFT's save_pretrained`,
    );
  }
  if (others.length > 0) {
    throw new AdapterError(
      "module_not_supported",
      `${weightsName} holds [${others.slice(0, 10).join(", ").slice(0, 1000)}] beside ${name}; train virtual tokens alone`,
    );
  }
  return readTensor(file, name, { shape, axes });
}

/** Two submodules are an encoder and a decoder, with a prompt each. */
function requireDecoder(fields: PeftFields): void {
  const submodules = fields.raw("num_transformer_submodules");
  if (submodules !== undefined && submodules !== null && submodules !== 1) {
    throw fields.unsupported("num_transformer_submodules");
  }
}
