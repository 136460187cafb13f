// Adapter contents for the swap test, each another version with other answers: the demo adapters of the embedded
// model with seeded signs flipped, and among them (IA)3 vectors and soft prompts, which take other ways through the
// engine than low-rank slots.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type TensorSource, tensorOf, writeSafetensors } from "../../kernels/checkpoint/write-safetensors.ts";
import { type AdapterFiles, flipSigns } from "../load/generated-adapters.ts";
import { Random } from "../load/random.ts";

export const embeddedModel = fileURLToPath(new URL("../../models/tiny", import.meta.url));

const shape = JSON.parse(readFileSync(join(embeddedModel, "config.json"), "utf8")) as {
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_hidden_layers: number;
  readonly num_key_value_heads: number;
  readonly head_dim: number;
};
const softTokens = 8;
const otherKindEvery = 6; // contents: one (IA)3, one soft prompt, the rest low-rank

export function makeContents(count: number): AdapterFiles[] {
  const demos = demoAdapters();
  return Array.from({ length: count }, (_, index): AdapterFiles => {
    if (index % otherKindEvery === 1) return ia3Vectors(index);
    if (index % otherKindEvery === 4) return softPrompt(index);
    const demo = demos[index % demos.length]!;
    return { ...demo, weights: flipSigns(demo.weights, index) };
  });
}

function demoAdapters(): AdapterFiles[] {
  const folder = join(embeddedModel, "adapters");
  return readdirSync(folder)
    .sort()
    .map((name) => ({
      config: readFileSync(join(folder, name, "adapter_config.json")),
      weights: readFileSync(join(folder, name, "adapter_model.safetensors")),
    }));
}

function ia3Vectors(seed: number): AdapterFiles {
  const random = new Random(seed);
  const keyWidth = shape.num_key_value_heads * shape.head_dim;
  const tensors = Array.from({ length: shape.num_hidden_layers }, (_, layer) => {
    const path = `base_model.model.model.layers.${layer}`;
    return [
      tensorOf(`${path}.self_attn.k_proj.ia3_l`, [keyWidth, 1], values(random, keyWidth, 1)),
      tensorOf(`${path}.self_attn.v_proj.ia3_l`, [keyWidth, 1], values(random, keyWidth, 1)),
      tensorOf(
        `${path}.mlp.down_proj.ia3_l`,
        [1, shape.intermediate_size],
        values(random, shape.intermediate_size, 1),
      ),
    ];
  });
  const config = {
    peft_type: "IA3",
    task_type: "CAUSAL_LM",
    target_modules: ["k_proj", "v_proj", "down_proj"],
    feedforward_modules: ["down_proj"],
  };
  return filesOf(config, tensors.flat());
}

function softPrompt(seed: number): AdapterFiles {
  const { hidden_size: width } = shape;
  const hidden = values(new Random(seed), softTokens * width, 0);
  const config = {
    peft_type: "PROMPT_TUNING",
    task_type: "CAUSAL_LM",
    num_virtual_tokens: softTokens,
    token_dim: width,
  };
  return filesOf(config, [tensorOf("prompt_embeddings", [softTokens, width], hidden)]);
}

function values(random: Random, count: number, mean: number): Float32Array {
  return Float32Array.from({ length: count }, () => mean + 0.2 * random.normal());
}

function filesOf(config: object, tensors: readonly TensorSource[]): AdapterFiles {
  const folder = mkdtempSync(join(tmpdir(), "cotenant-swap-"));
  try {
    const path = join(folder, "adapter_model.safetensors");
    writeSafetensors(path, tensors);
    return { config: Buffer.from(JSON.stringify(config)), weights: readFileSync(path) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
