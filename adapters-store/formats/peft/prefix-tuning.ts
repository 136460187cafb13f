// Prefix tuning, arXiv 2101.00190: keys and values of virtual tokens in every layer. They enter the cache as they are
// stored: not rotated, not normed; the tokens after them stand at the positions after the prefix.

import { configName } from "./fields.ts";
import { readPromptEmbeddings, virtualTokenFields } from "./prompt-embeddings.ts";
import type { PeftMethod } from "./tensors.ts";

export const prefixTuning: PeftMethod = {
  // What a projection made is what is stored.
  fields: [...virtualTokenFields, "init_weights", "prefix_projection"],

  decode(adapter, modules) {
    const { layers, kvHeads, headDim } = adapter.targets;
    const tokens = adapter.fields.positive("num_virtual_tokens");
    const width = layers * 2 * kvHeads * headDim;
    const stored = readPromptEmbeddings(adapter, [tokens, width], "[tokens, layers * 2 * kvHeads * headDim]");
    // [tokens, layers, keys or values, kvHeads, headDim] to [kvHeads, tokens, headDim]
    const take = (layer: number, which: 0 | 1) => {
      const taken = new Float32Array(kvHeads * tokens * headDim);
      for (let head = 0; head < kvHeads; head++) {
        for (let token = 0; token < tokens; token++) {
          const from = token * width + ((layer * 2 + which) * kvHeads + head) * headDim;
          taken.set(stored.subarray(from, from + headDim), (head * tokens + token) * headDim);
        }
      }
      return taken;
    };
    for (let layer = 0; layer < layers; layer++) {
      modules.add(configName, {
        kind: "prefix",
        layer,
        tokens,
        keys: take(layer, 0),
        values: take(layer, 1),
      });
    }
  },
};
