// Modules that are compressed alike (GraftLLM's SkillPack, arXiv 2505.18502: attention, MLP and embeddings differ).

import { type AdapterModule, moduleArrays } from "../../kernels/adapter.ts";
import type { Encoding } from "../codecs/encode-floats.ts";

export const moduleGroups = ["attention", "mlp", "embedding", "whole"] as const;
export type ModuleGroup = (typeof moduleGroups)[number];

export type GroupEncodings = Readonly<Record<ModuleGroup, Encoding>>;

/** `whole` are those that hold values, not differences from the base: dropping most of them would ruin them. */
export function groupOf(module: AdapterModule): ModuleGroup {
  switch (module.kind) {
    case "scale":
    case "soft-prompt":
    case "prefix":
      return "whole";
    case "embedding":
    case "head":
      return "embedding";
    case "low-rank":
    case "channels":
    case "sparse":
      return ["q", "k", "v", "o"].includes(module.projection) ? "attention" : "mlp";
  }
}

/** One encoding for all differences; whole values never get fewer than 16 bits. */
export function uniformEncodings(encoding: Encoding): GroupEncodings {
  const keepsWhole = encoding.codec === "f32" || encoding.codec === "bf16";
  return {
    attention: encoding,
    mlp: encoding,
    embedding: encoding,
    whole: keepsWhole ? encoding : { codec: "f16" },
  };
}

/** What the modules take with 16 bits for each value and 32 for each index. */
export function sixteenBitBytes(modules: readonly AdapterModule[]): number {
  return modules
    .flatMap(moduleArrays)
    .reduce((sum, [, array]) => sum + array.length * (array instanceof Uint32Array ? 4 : 2), 0);
}
