// For tests: writes small PEFT directories, whole or spoilt in one place.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { AdapterTargets } from "../kernels/adapter.ts";
import { type TensorSource, tensorOf, writeSafetensors } from "../kernels/checkpoint/write-safetensors.ts";

/** Widths all differ, so that a transposed or swapped shape is caught. */
export const fixtureTargets: AdapterTargets = {
  layers: 3,
  shapes: {
    q: { in: 8, out: 12 },
    k: { in: 8, out: 6 },
    v: { in: 8, out: 6 },
    o: { in: 12, out: 8 },
    gate: { in: 8, out: 20 },
    up: { in: 8, out: 20 },
    down: { in: 20, out: 8 },
  },
  hiddenSize: 8,
  vocabSize: 11,
  kvHeads: 2,
  headDim: 3,
};

const qProj = "self_attn.q_proj";

export type PeftFixture = {
  readonly config?: Readonly<Record<string, unknown>>;
  readonly tensors?: readonly TensorSource[];
};

const loraFields = { peft_type: "LORA", r: 2, lora_alpha: 4, target_modules: ["q_proj"], bias: "none" };

/** A rank-2 LoRA on q of every layer, unless told otherwise. The config of another method is taken as it is. */
export function writePeft(directory: string, { config = {}, tensors }: PeftFixture = {}): string {
  mkdirSync(directory, { recursive: true });
  const fields = (config.peft_type ?? "LORA") === "LORA" ? { ...loraFields, ...config } : config;
  writeFileSync(join(directory, "adapter_config.json"), JSON.stringify(fields));
  const weights = tensors ?? [0, 1, 2].flatMap((layer) => loraPair(modulePath(layer, qProj), [2, 8, 12]));
  writeSafetensors(join(directory, "adapter_model.safetensors"), weights);
  return directory;
}

export function modulePath(layer: number, module: string): string {
  return `base_model.model.model.layers.${layer}.${module}`;
}

/** A counts 1, 2, 3, ...; B counts -1, -2, -3, ..., times `factor`. */
export function loraPair(
  path: string,
  [rank, inWidth, outWidth]: readonly [rank: number, inWidth: number, outWidth: number],
  factor = 1,
): TensorSource[] {
  const counting = (length: number, sign: number) => Float32Array.from({ length }, (_, i) => sign * (i + 1));
  return [
    tensorOf(`${path}.lora_A.weight`, [rank, inWidth], counting(rank * inWidth, 1)),
    tensorOf(`${path}.lora_B.weight`, [outWidth, rank], counting(outWidth * rank, -factor)),
  ];
}
