// Writes a Hugging Face checkpoint directory of a published shape with random weights: benches need the shape,
// not the knowledge. Speed does not depend on the weights.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TensorSource, writeSafetensors } from "../kernels/checkpoint/write-safetensors.ts";
import { embeddingTensor, finalNormTensor, headTensor } from "../kernels/model-family.ts";
import { describeTensors } from "./checkpoint-tensors.ts";
import { CommandLine, fail } from "./command-line.ts";
import { generateTokenizer } from "./generate-tokenizer.ts";
import { type ModelShape, modelShapes } from "./model-shapes.ts";
import { constantTensor, RandomTensors } from "./random-weights.ts";

const usage = `npm run make-model -- --shape NAME --out DIR [--seed N]

  --shape  one of ${Object.keys(modelShapes).join(", ")}
  --out    the directory to write; files there are replaced
  --seed   of the weights, default 0`;

if (import.meta.main) {
  const commandLine = new CommandLine(usage, ["shape", "out", "seed"]);
  const name = commandLine.string("shape");
  if (!Object.hasOwn(modelShapes, name)) fail(`--shape ${name} is unknown\n\n${usage}`);
  makeModel({
    shape: modelShapes[name as keyof typeof modelShapes],
    directory: commandLine.string("out"),
    seed: commandLine.whole("seed", 0),
  });
}

export function makeModel(options: {
  readonly shape: ModelShape;
  readonly directory: string;
  readonly seed: number;
}): void {
  const { shape, directory, seed } = options;
  mkdirSync(directory, { recursive: true });
  const writeJson = (name: string, value: unknown) =>
    writeFileSync(join(directory, name), `${JSON.stringify(value, null, 2)}\n`);
  const eosTokenIds = shape.eosTokens.map((token) => shape.specialTokens[token]);
  writeJson("config.json", shape.config);
  writeJson("generation_config.json", { bos_token_id: shape.config.bos_token_id, eos_token_id: eosTokenIds });
  writeJson("tokenizer.json", generateTokenizer(shape));
  writeJson("tokenizer_config.json", {
    tokenizer_class: "PreTrainedTokenizerFast",
    model_max_length: shape.config.max_position_embeddings,
    bos_token: shape.bosToken,
    eos_token: shape.eosTokens[0],
    clean_up_tokenization_spaces: false,
    chat_template: shape.chatTemplate,
  });
  writeSafetensors(join(directory, "model.safetensors"), modelTensors(shape, new RandomTensors(seed)));
}

function modelTensors(shape: ModelShape, random: RandomTensors): TensorSource[] {
  const { config, normValue, layers } = describeTensors(shape.config, "config.json");
  const { hiddenSize, vocabSize, headDim } = config;
  const tensors = layers.flatMap(({ linears, norms }) => [
    ...linears.map(({ module, shape }) => random.normal(`${module}.weight`, [shape.out, shape.in])),
    ...linears.flatMap(({ bias, shape }) => (bias === null ? [] : [random.normal(bias, [shape.out])])),
    ...norms.hidden.map((name) => constantTensor(name, hiddenSize, normValue)),
    ...norms.head.map((name) => constantTensor(name, headDim, normValue)),
  ]);
  return [
    random.normal(embeddingTensor, [vocabSize, hiddenSize]),
    ...tensors,
    constantTensor(finalNormTensor, hiddenSize, normValue),
    ...(config.tiedHead ? [] : [random.normal(headTensor, [vocabSize, hiddenSize])]),
  ];
}
