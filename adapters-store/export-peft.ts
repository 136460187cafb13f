// Writes a decoded adapter as a PEFT LoRA directory, with the adapter's scale inside of B and lora_alpha = rank.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  type AdapterTargets,
  type DecodedAdapter,
  type LowRankModule,
  modulesOf,
  type Projection,
} from "../kernels/adapter.ts";
import { tensorOf, writeSafetensors } from "../kernels/checkpoint/write-safetensors.ts";
import { AdapterError } from "../kernels/errors.ts";
import { bytesOf } from "./codecs/tensor-codec.ts";

export type PeftExport = {
  readonly directory: string; // made where it is missing; its two files are replaced
  readonly targets: AdapterTargets;
  readonly baseModelName: string;
  /** Whether the base's checkpoint stores q, k, v and gate, up as one tensor each, as Phi-3's does. */
  readonly fusedProjections: boolean;
};

type Floats = Float32Array<ArrayBuffer>;
type StoredModules = Readonly<Record<string, readonly Projection[]>>;

const outer = { "self_attn.o_proj": ["o"], "mlp.down_proj": ["down"] } as const satisfies StoredModules;
const separate: StoredModules = {
  "self_attn.q_proj": ["q"],
  "self_attn.k_proj": ["k"],
  "self_attn.v_proj": ["v"],
  "mlp.gate_proj": ["gate"],
  "mlp.up_proj": ["up"],
  ...outer,
};
const fused: StoredModules = {
  "self_attn.qkv_proj": ["q", "k", "v"],
  "mlp.gate_up_proj": ["gate", "up"],
  ...outer,
};

/** Throws AdapterError `adapter_export_unsupported` for kinds that a LoRA directory cannot hold. */
export function exportPeft(adapter: DecodedAdapter, options: PeftExport): void {
  const other = adapter.modules.find(({ kind }) => kind !== "low-rank");
  if (other !== undefined) {
    throw new AdapterError(
      "adapter_export_unsupported",
      `the adapter has modules of kind ${other.kind}, which a PEFT LoRA directory cannot hold; export it as *.cotenant`,
    );
  }
  const { directory, targets, baseModelName, fusedProjections } = options;
  const stored = storedModules(adapter, targets, fusedProjections ? fused : separate);
  mkdirSync(directory, { recursive: true });
  const config = configFor(stored, targets.layers, baseModelName);
  writeFileSync(join(directory, "adapter_config.json"), `${JSON.stringify(config, null, 2)}\n`);
  writeSafetensors(
    join(directory, "adapter_model.safetensors"),
    stored.flatMap(({ path, rank, a, b }) => [
      tensorOf(`base_model.model.${path}.lora_A.weight`, [rank, a.length / rank], a),
      tensorOf(`base_model.model.${path}.lora_B.weight`, [b.length / rank, rank], b),
    ]),
  );
}

type StoredModule = {
  readonly path: string;
  readonly name: string;
  readonly rank: number;
  readonly a: Floats; // [rank, in]
  readonly b: Floats; // [out, rank]
};

function storedModules(
  adapter: DecodedAdapter,
  targets: AdapterTargets,
  stored: StoredModules,
): StoredModule[] {
  const modules = modulesOf(adapter, "low-rank");
  return Array.from({ length: targets.layers }, (_, layer) =>
    Object.entries(stored).flatMap(([name, projections]): StoredModule[] => {
      const parts = modules.filter((each) => each.layer === layer && projections.includes(each.projection));
      if (parts.length === 0) return [];
      return [{ path: `model.layers.${layer}.${name}`, name, ...stack(parts, projections, targets) }];
    }),
  ).flat();
}

/** Modules of one stored tensor: ranks side by side, those that read through the same `a` once. */
function stack(
  parts: readonly LowRankModule[],
  projections: readonly Projection[],
  targets: AdapterTargets,
): Pick<StoredModule, "rank" | "a" | "b"> {
  const distinct = parts.filter((part, i) => parts.findIndex((other) => sameValues(other.a, part.a)) === i);
  const rank = distinct.reduce((sum, part) => sum + part.rank, 0);
  const outWidth = projections.reduce((sum, projection) => sum + targets.shapes[projection].out, 0);
  const a = new Float32Array(distinct.reduce((sum, part) => sum + part.a.length, 0));
  const b = new Float32Array(outWidth * rank);
  let firstRank = 0;
  for (const { a: own, rank: ownRank } of distinct) {
    a.set(own, (firstRank * own.length) / ownRank);
    for (const part of parts.filter((each) => sameValues(each.a, own))) {
      const before = projections.slice(0, projections.indexOf(part.projection));
      const firstRow = before.reduce((sum, projection) => sum + targets.shapes[projection].out, 0);
      const rows = part.b.length / ownRank;
      for (let r = 0; r < ownRank; r++) {
        for (let row = 0; row < rows; row++) {
          b[(firstRow + row) * rank + firstRank + r] = part.b[r * rows + row]!;
        }
      }
    }
    firstRank += ownRank;
  }
  return { rank, a, b };
}

function sameValues(one: Floats, other: Floats): boolean {
  return one === other || Buffer.compare(bytesOf(one), bytesOf(other)) === 0;
}

function configFor(stored: readonly StoredModule[], layers: number, baseModelName: string): object {
  const rank = Math.max(...stored.map((each) => each.rank));
  const others = Object.fromEntries(
    stored.filter((each) => each.rank !== rank).map((each) => [each.path.replaceAll(".", "\\."), each.rank]),
  );
  const names = [...new Set(stored.map(({ name }) => name))];
  const isEverywhere = stored.length === names.length * layers;
  return {
    peft_type: "LORA",
    task_type: "CAUSAL_LM",
    base_model_name_or_path: baseModelName,
    bias: "none",
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    lora_dropout: 0,
    modules_to_save: null,
    r: rank,
    lora_alpha: rank, // scale 1
    rank_pattern: others,
    alpha_pattern: others,
    // Where a layer lacks a module, short names would have PEFT add one.
    target_modules: isEverywhere ? names.map((name) => name.split(".")[1]) : stored.map(({ path }) => path),
    use_dora: false,
    use_rslora: false,
  };
}
