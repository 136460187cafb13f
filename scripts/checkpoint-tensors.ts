// The tensors that a config.json promises, for scripts that write random ones: from the model families, so
// that whatever the server can read the scripts can write.

import { type Projection, type ProjectionShape, projections } from "../kernels/adapter.ts";
import { RawConfig } from "../kernels/model-config.ts";
import { adapterTargets, type LayerTensors } from "../kernels/model-family.ts";
import { familyOf } from "../kernels/models/index.ts";

/** A stored linear map and the projections that it computes: one, or several where they are fused. */
export type StoredLinear = {
  readonly module: string; // model.layers.0.self_attn.q_proj
  readonly projections: readonly Projection[];
  readonly shape: ProjectionShape;
  readonly bias: string | null; // [out]
};

/** @throws CheckpointError where the config is not one of a known family */
export function describeTensors(configFields: unknown, path: string) {
  const raw = new RawConfig(configFields, path);
  const family = familyOf(raw.string("model_type"));
  const config = family.config(raw);
  const layers = Array.from({ length: config.layers }, (_, index) => {
    const tensors = family.layer(config, index, raw);
    return { linears: storedLinears(tensors, adapterTargets(config).shapes), norms: normNames(tensors) };
  });
  return { config, normValue: 1 - family.normOffset, layers };
}

function storedLinears(
  tensors: LayerTensors,
  shapes: Readonly<Record<Projection, ProjectionShape>>,
): StoredLinear[] {
  const names = [...new Set(projections.map((projection) => tensors[projection].weight.name))];
  return names.map((name) => {
    const fused = projections.filter((projection) => tensors[projection].weight.name === name);
    const { weight, bias } = tensors[fused[0]!];
    return {
      module: name.replace(/\.weight$/, ""),
      projections: fused,
      shape: { in: shapes[fused[0]!].in, out: weight.storedRows },
      bias: bias?.name ?? null,
    };
  });
}

function normNames(tensors: LayerTensors): { readonly hidden: string[]; readonly head: string[] } {
  const { attentionNorm, mlpNorm, attentionOutputNorm, mlpOutputNorm, queryNorm, keyNorm } = tensors;
  const isName = (name: string | null): name is string => name !== null;
  return {
    hidden: [attentionNorm, mlpNorm, attentionOutputNorm, mlpOutputNorm].filter(isName),
    head: [queryNorm, keyNorm].filter(isName),
  };
}
