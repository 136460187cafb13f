// Prompt tuning (arXiv 2104.08691) and P-tuning (arXiv 2103.10385): hidden states of virtual tokens. PEFT puts them in
// front of the looked-up embeddings, so a family's embedding scale does not touch them.

import { configName } from "./fields.ts";
import { readPromptEmbeddings, virtualTokenFields } from "./prompt-embeddings.ts";
import type { PeftMethod } from "./tensors.ts";

export const promptTuning: PeftMethod = {
  fields: [
    ...virtualTokenFields,
    // P-tuning's encoder, whose output is stored
    "encoder_dropout",
    "encoder_num_layers",
    "encoder_reparameterization_type",
    // where the prompt started from
    "prompt_tuning_init",
    "prompt_tuning_init_text",
    "tokenizer_kwargs",
    "tokenizer_name_or_path",
  ],

  decode(adapter, modules) {
    const tokens = adapter.fields.positive("num_virtual_tokens");
    const hidden = readPromptEmbeddings(adapter, [tokens, adapter.targets.hiddenSize], "[tokens, hidden]");
    modules.add(configName, { kind: "soft-prompt", tokens, hidden });
  },
};
