// PEFT LoRA directories: adapter_config.json and adapter_model.safetensors. Every tensor of the file must end
// up in a module of the base; one that cannot is a refusal, never dropped.

import { join } from "node:path";
import {
  type AdapterTargets,
  type DecodedAdapter,
  type LowRankModule,
  type Projection,
  projections,
} from "../../kernels/adapter.ts";
import { findNonFinite } from "../../kernels/checkpoint/finite.ts";
import { openSafetensors, type SafetensorsFile } from "../../kernels/checkpoint/safetensors.ts";
import { AdapterError } from "../../kernels/errors.ts";
import type { AdapterFormat } from "../adapter-format.ts";
import { configName, type PeftConfig, readPeftConfig } from "./peft-config.ts";

const weightsName = "adapter_model.safetensors";
const maxNameLength = 500; // far beyond any module's; patterns are matched against names

/** Stored module name to the projections that it computes, their outputs concatenated in this order. */
const projectionsOf = {
  "self_attn.q_proj": ["q"],
  "self_attn.k_proj": ["k"],
  "self_attn.v_proj": ["v"],
  "self_attn.o_proj": ["o"],
  "self_attn.qkv_proj": ["q", "k", "v"], // Phi-3
  "mlp.gate_proj": ["gate"],
  "mlp.up_proj": ["up"],
  "mlp.down_proj": ["down"],
  "mlp.gate_up_proj": ["gate", "up"], // Phi-3
} as const satisfies Record<string, readonly Projection[]>;

export const peft: AdapterFormat = {
  claim(fileNames) {
    if (!fileNames.includes(configName)) return null;
    if (fileNames.includes(weightsName)) return [configName, weightsName];
    const pickle = fileNames.find((name) => /\.(bin|pt|pth)$/.test(name));
    if (pickle === undefined) {
      throw new AdapterError(
        "adapter_weights_missing",
        `the adapter lacks ${weightsName}; give it beside ${configName}`,
      );
    }
    throw new AdapterError(
      "adapter_pickle_refused",
      `${pickle} is a pickle, which can run code and is never opened; save the adapter with PEFT's save_pretrained(safe_serialization=True)`,
    );
  },

  decode(directory, targets) {
    const config = readPeftConfig(directory);
    using file = openSafetensors(join(directory, weightsName), weightsName);
    return decodeFile(file, config, targets);
  },
};

function decodeFile(file: SafetensorsFile, config: PeftConfig, targets: AdapterTargets): DecodedAdapter {
  const modules: LowRankModule[] = [];
  const seen = new Set<string>();
  for (const pair of pairTensors(file, targets)) {
    for (const module of decodePair(file, pair, { config, targets })) {
      const key = `layer ${module.layer}, ${module.projection}`;
      if (seen.has(key)) {
        throw new AdapterError(
          "adapter_module_duplicate",
          `${weightsName}: two modules change ${key}, the second is ${pair.path}; save one adapter alone`,
        );
      }
      seen.add(key);
      modules.push(module);
    }
  }
  return { modules };
}

/** The two tensors of one stored module. */
type TensorPair = {
  readonly path: string; // inside of the base model: model.layers.0.self_attn.q_proj
  readonly layer: number;
  readonly projections: readonly Projection[];
  readonly a: string;
  readonly b: string;
};

type Side = "A" | "B";

function pairTensors(file: SafetensorsFile, targets: AdapterTargets): TensorPair[] {
  const found = new Map<string, { readonly tensors: Map<Side, string>; readonly place: ModulePlace }>();
  const unmatched: string[] = [];
  for (const name of file.tensors.keys()) {
    const parsed = parseTensorName(name);
    if (parsed === null || parsed.place.layer >= targets.layers) {
      unmatched.push(name);
      continue;
    }
    const { path, side, place } = parsed;
    const { tensors } = found.get(path) ?? found.set(path, { tensors: new Map(), place }).get(path)!;
    if (tensors.has(side)) {
      throw new AdapterError(
        "adapter_module_duplicate",
        `${weightsName}: ${name} and ${tensors.get(side)} are the same tensor; save one adapter alone`,
      );
    }
    tensors.set(side, name);
  }
  refuseUnmatched(unmatched, found.size, targets);
  return [...found].map(([path, { tensors, place }]) => {
    const a = tensors.get("A");
    const b = tensors.get("B");
    if (a !== undefined && b !== undefined) return { path, ...place, a, b };
    throw new AdapterError(
      "adapter_tensor_missing",
      `${weightsName}: ${path} has ${a ?? b}, but no lora_${a === undefined ? "A" : "B"}; save the whole adapter`,
    );
  });
}

type ModulePlace = { readonly layer: number; readonly projections: readonly Projection[] };

/** Null for a tensor that belongs to no projection of a decoder layer. */
function parseTensorName(
  name: string,
): { readonly path: string; readonly side: Side; readonly place: ModulePlace } | null {
  if (name.length > maxNameLength) return null;
  // PEFT prefixes what it wraps; the adapter's name follows lora_A where a file was saved around PEFT.
  const parts = /^(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.default)?\.weight$/.exec(name);
  const path = parts?.[1] ?? "";
  // Multimodal checkpoints nest the text model as language_model.
  const place = /^(?:model\.|language_model\.)*layers\.(0|[1-9]\d{0,5})\.([a-z_]+\.[a-z_]+)$/.exec(path);
  const module = place?.[2] ?? "";
  if (!Object.hasOwn(projectionsOf, module)) return null;
  return {
    path,
    side: parts?.[2] as Side,
    place: { layer: Number(place?.[1]), projections: projectionsOf[module as keyof typeof projectionsOf] },
  };
}

function refuseUnmatched(unmatched: readonly string[], matchedCount: number, targets: AdapterTargets): void {
  if (matchedCount > 0 && unmatched.length === 0) return;
  const listed = `${unmatched.slice(0, 10).join(", ").slice(0, 1000)}${unmatched.length > 10 ? ", …" : ""}`;
  const served = `the base has layers 0 to ${targets.layers - 1} with the projections ${projections.join(", ")}`;
  if (matchedCount === 0) {
    throw new AdapterError(
      "no_modules_matched",
      `${weightsName} holds ${unmatched.length === 0 ? "no tensors" : `[${listed}]`}, but ${served}; train the adapter on this base`,
    );
  }
  throw new AdapterError(
    "module_not_supported",
    `${weightsName}: ${unmatched.length} tensors match no module that can be changed: [${listed}]; ${served}: train the adapter on those alone`,
  );
}

function decodePair(
  file: SafetensorsFile,
  pair: TensorPair,
  against: { readonly config: PeftConfig; readonly targets: AdapterTargets },
): LowRankModule[] {
  const { path, layer } = pair;
  const { config, targets } = against;
  if (!config.targets(path)) {
    throw new AdapterError(
      "adapter_module_not_targeted",
      `${weightsName} holds ${path}, which ${configName} does not target, so PEFT would ignore it; give the config that belongs to these weights`,
    );
  }
  const shapes = pair.projections.map((projection) => targets.shapes[projection]);
  const rank = config.rankOf(path);
  const inWidth = shapes[0]!.in;
  const outWidth = shapes.reduce((sum, shape) => sum + shape.out, 0);
  const a = readTensor(file, pair.a, { shape: [rank, inWidth], axes: "[rank, in]" });
  const b = readTensor(file, pair.b, { shape: [outWidth, rank], axes: "[out, rank]" });
  const scale = config.scaleOf(path);
  let firstRow = 0;
  return pair.projections.map((projection, i) => {
    const rows = shapes[i]!.out;
    const scaled = transposeScaled(b.subarray(firstRow * rank, (firstRow + rows) * rank), rank, scale);
    firstRow += rows;
    if (findNonFinite(scaled) >= 0) {
      throw new AdapterError(
        "non_finite_weights",
        `${path}: lora_B times its scale ${scale} overflows; lower lora_alpha`,
      );
    }
    return { kind: "low-rank", layer, projection, rank, a, b: scaled }; // fused projections share one `a`
  });
}

function readTensor(
  file: SafetensorsFile,
  name: string,
  wanted: { readonly shape: readonly [number, number]; readonly axes: string },
): Float32Array<ArrayBuffer> {
  const { shape } = file.tensors.get(name)!;
  if (shape.length !== 2 || shape[0] !== wanted.shape[0] || shape[1] !== wanted.shape[1]) {
    throw new AdapterError(
      "adapter_wrong_shape",
      `${weightsName}: ${name} is [${shape}], but the config's rank and the base ask for ${wanted.axes} = [${wanted.shape}]; train the adapter on this base, or give the config that belongs to it`,
    );
  }
  const values = file.readFloat32(name);
  const at = findNonFinite(values);
  if (at < 0) return values;
  throw new AdapterError(
    "non_finite_weights",
    `${weightsName}: ${name} holds ${values[at]} at ${at}; the file is damaged or its training diverged`,
  );
}

/** [out, rank] to [rank, out], times `scale`. */
function transposeScaled(b: Float32Array, rank: number, scale: number): Float32Array<ArrayBuffer> {
  const out = b.length / rank;
  const transposed = new Float32Array(b.length);
  for (let row = 0; row < out; row++) {
    for (let r = 0; r < rank; r++) transposed[r * out + row] = b[row * rank + r]! * scale;
  }
  return transposed;
}
