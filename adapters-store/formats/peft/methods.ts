// The registry of PEFT's methods, keyed by adapter_config.json's peft_type.

import { ia3 } from "./ia3.ts";
import { loha } from "./loha.ts";
import { lokr } from "./lokr.ts";
import { lora } from "./lora.ts";
import { prefixTuning } from "./prefix-tuning.ts";
import { promptTuning } from "./prompt-tuning.ts";
import type { PeftMethod } from "./tensors.ts";
import { vera } from "./vera.ts";

export const peftMethods = {
  LORA: lora,
  IA3: ia3,
  VERA: vera,
  LOHA: loha,
  LOKR: lokr,
  PREFIX_TUNING: prefixTuning,
  PROMPT_TUNING: promptTuning,
  P_TUNING: promptTuning, // what is saved is the encoder's output, as in prompt tuning
} as const satisfies Record<string, PeftMethod>;
