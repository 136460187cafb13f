// The float32 graph against the slow forward pass, on random checkpoints of random shapes of every family.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { openReference } from "../../tests/golden/reference-model.ts";
import { type DecodedAdapter, projections } from "../adapter.ts";
import { openBaseModel } from "../base-model.ts";
import { tensorOf, writeSafetensors } from "../checkpoint/write-safetensors.ts";
import { CpuRunner } from "../cpu/cpu-runner.ts";
import { type ModelConfig, RawConfig } from "../model-config.ts";
import {
  adapterTargets,
  embeddingTensor,
  finalNormTensor,
  headTensor,
  type LayerTensors,
} from "../model-family.ts";
import { familyOf, modelFamilies } from "../models/index.ts";
import { randomAt } from "../sampling/random.ts";
import { referenceForward } from "./forward.ts";
import { tolerances } from "./tolerances.ts";

const directory = mkdtempSync(join(tmpdir(), "cotenant-forward-"));
after(() => rmSync(directory, { recursive: true, force: true }));

const seeds = [1, 2, 3];

for (const modelType of Object.keys(modelFamilies)) {
  for (const seed of seeds) {
    test(`${modelType}, random shape ${seed}`, async () => {
      const random = new Random(seed * 1000 + modelType.length * 7 + modelType.charCodeAt(0));
      const modelDirectory = join(directory, `${modelType}-${seed}`);
      writeCheckpoint(modelDirectory, randomConfig(modelType, random), random);
      using reference = openReference(modelDirectory);
      const base = await openBaseModel({
        modelDirectory,
        cacheDirectory: join(directory, "cache"),
        encoding: "float32",
        threads: 1,
        onProgress: () => undefined,
      });
      const runner = new CpuRunner(base, { maxRows: 2, maxContext: 64 });
      const adapter = randomAdapter(reference.config, random);
      runner.addAdapter("adapter", adapter);
      const { vocabSize } = reference.config;
      const tokenIds = Array.from({ length: 17 }, () => random.below(vocabSize));
      for (const version of [null, "adapter"]) {
        const expected = referenceForward(reference, tokenIds, version === null ? null : adapter);
        const found = await runInPieces(runner, version, tokenIds);
        for (const [position, logits] of expected.entries()) {
          const worst = Math.max(
            ...logits.map((logit, id) => Math.abs(logit - found[position * vocabSize + id]!)),
          );
          assert.ok(worst <= tolerances.forwardLogits, `${version}, position ${position}: ${worst}`);
        }
      }
      await runner.dispose();
    });
  }
}

/** A chunk of 9, one of 3, then single tokens by decode: logits of all positions, [tokens, vocab]. */
async function runInPieces(
  runner: CpuRunner,
  version: string | null,
  tokenIds: readonly number[],
): Promise<number[]> {
  const found: number[] = [];
  runner.open("one", { adapterVersion: version, prefix: null });
  for (const [from, to] of [
    [0, 9],
    [9, 12],
  ]) {
    const chunk = { sequence: "one", tokenIds: tokenIds.slice(from, to), promptLength: 12 };
    found.push(...(await runner.prefill({ ...chunk, logits: "all" })).data);
  }
  for (const tokenId of tokenIds.slice(12)) {
    found.push(...(await runner.decode([{ sequence: "one", tokenId }])).data);
  }
  runner.close("one");
  return found;
}

class Random {
  readonly #seed: number;
  #draws = 0;

  constructor(seed: number) {
    this.#seed = seed;
  }

  below(limit: number): number {
    return Math.floor(randomAt(this.#seed, this.#draws++) * limit);
  }

  chance(): boolean {
    return this.below(2) === 1;
  }

  of<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)]!;
  }

  /** Uniform values around `middle` with the given standard deviation. */
  values(length: number, deviation: number, middle = 0): Float32Array<ArrayBuffer> {
    const reach = deviation * Math.sqrt(3);
    return Float32Array.from(
      { length },
      () => middle + (randomAt(this.#seed, this.#draws++) * 2 - 1) * reach,
    );
  }
}

/** Sizes that are no multiples of anything, and every switch of the family thrown at random. */
function randomConfig(modelType: string, random: Random): Record<string, unknown> {
  const kvHeads = random.of([1, 2, 3]);
  const heads = kvHeads * random.of([1, 2, 4]);
  const headDim = random.of([8, 16, 24]);
  const layers = random.of([1, 2, 3]);
  const common = {
    model_type: modelType,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    num_hidden_layers: layers,
    head_dim: headDim,
    hidden_size: modelType === "phi3" ? heads * headDim : random.of([20, 36, 50]),
    intermediate_size: random.of([12, 33, 70]),
    vocab_size: random.of([31, 64, 97]),
    max_position_embeddings: 64,
    rms_norm_eps: random.of([1e-5, 1e-6]),
    rope_theta: random.of([1e3, 1e4, 5e5]),
    tie_word_embeddings: random.chance(),
  };
  const window = random.of([2, 5, 11]);
  switch (modelType) {
    case "llama":
      return { ...common, attention_bias: random.chance(), mlp_bias: random.chance() };
    case "mistral":
      return { ...common, sliding_window: random.of([null, window]) };
    case "gemma3_text":
      return {
        ...common,
        sliding_window: window,
        sliding_window_pattern: random.of([2, 3]),
        query_pre_attn_scalar: random.of([8, 20]),
        rope_local_base_freq: random.of([100, 1e4]),
      };
    case "phi3":
      return {
        ...common,
        sliding_window: random.of([null, window]),
        partial_rotary_factor: random.of([1, 0.5, 0.75]),
      };
    default:
      return {
        ...common,
        attention_bias: random.chance(),
        use_sliding_window: random.chance(),
        sliding_window: window,
        max_window_layers: random.below(layers),
      };
  }
}

function writeCheckpoint(modelDirectory: string, config: Record<string, unknown>, random: Random): void {
  const raw = new RawConfig(config, "config.json");
  const family = familyOf(raw.string("model_type"));
  const parsed = family.config(raw);
  const { hiddenSize: hidden, headDim, vocabSize } = parsed;
  const tensors = new Map<string, ReturnType<typeof tensorOf>>();
  const matrix = (name: string, rows: number, columns: number) =>
    tensors.set(name, tensorOf(name, [rows, columns], random.values(rows * columns, 1 / Math.sqrt(columns))));
  const vector = (name: string | null, length: number, middle: number) => {
    if (name !== null) tensors.set(name, tensorOf(name, [length], random.values(length, 0.3, middle)));
  };
  matrix(embeddingTensor, vocabSize, hidden);
  if (!parsed.tiedHead) matrix(headTensor, vocabSize, hidden);
  const one = 1 - family.normOffset;
  vector(finalNormTensor, hidden, one);
  const { shapes } = adapterTargets(parsed);
  for (let index = 0; index < parsed.layers; index++) {
    const layer: LayerTensors = family.layer(parsed, index, raw);
    for (const projection of projections) {
      const { weight, bias } = layer[projection];
      if (!tensors.has(weight.name)) matrix(weight.name, weight.storedRows, shapes[projection].in);
      if (bias !== null) vector(bias.name, bias.storedRows, 0);
    }
    vector(layer.attentionNorm, hidden, one);
    vector(layer.mlpNorm, hidden, one);
    vector(layer.queryNorm, headDim, one);
    vector(layer.keyNorm, headDim, one);
    vector(layer.attentionOutputNorm, hidden, one);
    vector(layer.mlpOutputNorm, hidden, one);
  }
  mkdirAndWrite(modelDirectory, config, [...tensors.values()]);
}

function mkdirAndWrite(
  modelDirectory: string,
  config: Record<string, unknown>,
  tensors: Parameters<typeof writeSafetensors>[1],
): void {
  mkdirSync(modelDirectory);
  writeFileSync(join(modelDirectory, "config.json"), JSON.stringify(config));
  writeSafetensors(join(modelDirectory, "model.safetensors"), tensors);
}

function randomAdapter(config: ModelConfig, random: Random): DecodedAdapter {
  const { layers, shapes } = adapterTargets(config);
  const modules = projections.flatMap((projection) =>
    Array.from({ length: layers }, (_, layer) => {
      const rank = random.of([1, 3, 8, 11]);
      const { in: inWidth, out } = shapes[projection];
      const a = random.values(rank * inWidth, 1 / Math.sqrt(inWidth));
      return {
        kind: "low-rank" as const,
        layer,
        projection,
        rank,
        a,
        b: random.values(rank * out, 0.3 / Math.sqrt(rank)),
      };
    }),
  );
  return { modules: modules.filter(() => random.below(3) > 0) };
}
