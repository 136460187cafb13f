// llama.cpp's LoRA files, as its convert_lora_to_gguf.py writes them from PEFT directories.

import { readdirSync } from "node:fs";
import { join } from "node:path";
import type { AdapterTargets, Projection } from "../../kernels/adapter.ts";
import { AdapterError } from "../../kernels/errors.ts";
import type { AdapterFormat } from "../adapter-format.ts";
import { openBase } from "./base.ts";
import { type GgufFile, openGguf } from "./gguf-file.ts";
import {
  claimOne,
  pairTensors,
  requireFinite,
  requireShape,
  type TensorPair,
  type TensorPlace,
} from "./low-rank-file.ts";
import { type ModulePlace, placeOf, widthsOf } from "./module-places.ts";
import { ModuleSet, transposed } from "./module-set.ts";

const ending = ".gguf";

export const gguf: AdapterFormat = {
  claim: (fileNames) => claimOne(fileNames, ending),

  decode(directory, targets) {
    const [fileName] = claimOne(readdirSync(directory), ending)!;
    using file = openGguf(join(directory, fileName), fileName);
    const architecture = requireLora(file, fileName);
    requireSameArchitecture(architecture, fileName, targets);
    const parse = (name: string) => parseTensorName(name, architecture);
    const modules = new ModuleSet(targets);
    for (const pair of pairTensors({ fileName, names: file.tensors.keys(), parse }, targets)) {
      modules.addLowRank(pair.place, readPair(file, pair, { fileName, architecture, targets }));
    }
    return modules.adapter;
  },
};

/** Families that we serve, by llama.cpp's name of their architecture. */
const families = {
  llama: ["llama", "mistral"],
  qwen2: ["qwen2"],
  qwen3: ["qwen3"],
  gemma3: ["gemma3"],
  phi3: ["phi3"],
} as const satisfies Record<string, readonly string[]>;
type Architecture = keyof typeof families;

/** Throws AdapterError `adapter_feature_unsupported`. */
function requireLora({ metadata }: GgufFile, fileName: string): Architecture {
  const type = metadata.get("general.type");
  const kind = metadata.get("adapter.type");
  if (type !== "adapter" || kind !== "lora") {
    throw new AdapterError(
      "adapter_feature_unsupported",
      `${fileName}: general.type ${type} with adapter.type ${kind} is no LoRA; give what convert_lora_to_gguf.py wrote`,
    );
  }
  const activated = "adapter.alora.invocation_tokens";
  if (metadata.has(activated)) {
    throw new AdapterError(
      "adapter_feature_unsupported",
      `${fileName}: ${activated} makes it an activated LoRA, which is not served; train it as a plain one`,
    );
  }
  const architecture = metadata.get("general.architecture");
  if (typeof architecture === "string" && Object.hasOwn(families, architecture))
    return architecture as Architecture;
  throw new AdapterError(
    "adapter_feature_unsupported",
    `${fileName}: general.architecture ${architecture} is not served; known are ${Object.keys(families).join(", ")}`,
  );
}

/** Throws AdapterError `adapter_base_mismatch`. */
function requireSameArchitecture(
  architecture: Architecture,
  fileName: string,
  targets: AdapterTargets,
): void {
  if (targets.checkpointDirectory === undefined) return; // the shapes must do
  using base = openBase(targets, fileName);
  const served: readonly string[] = families[architecture];
  if (served.includes(base.config.family)) return;
  throw new AdapterError(
    "adapter_base_mismatch",
    `${fileName} is of the architecture ${architecture}, the base is ${base.config.family}; train the adapter on this base`,
  );
}

/** llama.cpp's names of modules, by those of Hugging Face. */
const moduleNames: Readonly<Record<string, string>> = {
  attn_q: "self_attn.q_proj",
  attn_k: "self_attn.k_proj",
  attn_v: "self_attn.v_proj",
  attn_qkv: "self_attn.qkv_proj",
  attn_output: "self_attn.o_proj",
  ffn_gate: "mlp.gate_proj",
  ffn_up: "mlp.up_proj",
  ffn_down: "mlp.down_proj",
};

function parseTensorName(name: string, architecture: Architecture): TensorPlace | null {
  const [, path = "", side] = /^(.{1,200})\.weight\.lora_([ab])$/.exec(name) ?? [];
  const place = ggufPlace(path, architecture);
  return place === null ? null : { path, place, side: side === "a" ? "A" : "B" };
}

function ggufPlace(path: string, architecture: Architecture): ModulePlace | null {
  if (path === "token_embd") return { kind: "embedding" };
  if (path === "output") return { kind: "head" };
  const [, layer, module = ""] = /^blk\.(0|[1-9]\d{0,5})\.([a-z_]+)$/.exec(path) ?? [];
  if (!Object.hasOwn(moduleNames, module)) return null;
  // Phi-3's ffn_up is gate and up in one, as it is in its checkpoint.
  const name = architecture === "phi3" && module === "ffn_up" ? "mlp.gate_up_proj" : moduleNames[module];
  return placeOf(`layers.${layer}.${name}`);
}

function readPair(
  file: GgufFile,
  { path, place, a, b }: TensorPair,
  from: { readonly fileName: string; readonly architecture: Architecture; readonly targets: AdapterTargets },
) {
  const { fileName, architecture, targets } = from;
  const width = widthsOf(place, targets);
  const rank = file.tensors.get(b)!.shape.at(-1) ?? 0;
  const isEmbedding = place.kind === "embedding"; // its A lies transposed, so that tokens are rows
  const read = (name: string, shape: readonly number[], axes: string) => {
    requireShape({ fileName, name, shape: file.tensors.get(name)!.shape }, shape, axes);
    const values = file.readFloat32(name);
    requireFinite(values, `${fileName}: ${name}`);
    return values;
  };
  const storedA = isEmbedding
    ? read(a, [width.in, rank], "[vocab, rank]")
    : read(a, [rank, width.in], "[rank, in]");
  const storedB = read(b, [width.out, rank], "[out, rank]");
  const rotates =
    place.kind === "projections" && place.projections.length === 1 ? place.projections[0]! : null;
  return {
    path,
    rank,
    a: isEmbedding ? transposed(storedA, rank, 1) : storedA,
    b: architecture === "llama" && isRotated(rotates) ? unpermuted(storedB, rank, targets.headDim) : storedB,
    scale: scaleOf(file, fileName, rank),
  };
}

function isRotated(projection: Projection | null): boolean {
  return projection === "q" || projection === "k";
}

/**
 * llama.cpp rotates neighbouring pairs in Llama's heads, Hugging Face one half against the other; the converter
 * reorders the rows of q and k for that (LlamaModel.permute), and this undoes it.
 */
function unpermuted(b: Float32Array, rank: number, headDim: number): Float32Array<ArrayBuffer> {
  const half = headDim / 2;
  const result = new Float32Array(b.length);
  for (let row = 0; row < b.length / rank; row++) {
    const inHead = row % headDim;
    const from = row - inHead + 2 * (inHead % half) + Math.floor(inHead / half);
    result.set(b.subarray(from * rank, (from + 1) * rank), row * rank);
  }
  return result;
}

/** As llama.cpp's get_scale: no alpha, or zero, is no scale. */
function scaleOf({ metadata }: GgufFile, fileName: string, rank: number): number {
  const alpha = metadata.get("adapter.lora.alpha") ?? 0;
  if (typeof alpha === "number" && Number.isFinite(alpha)) return alpha === 0 ? 1 : alpha / rank;
  throw new AdapterError("gguf_malformed", `${fileName}: adapter.lora.alpha is ${alpha}; convert it again`);
}
