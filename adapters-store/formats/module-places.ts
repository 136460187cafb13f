// Where in a model a stored module sits, by the names that Hugging Face models give their modules. Knows no format.

import type { AdapterTargets, Projection } from "../../kernels/adapter.ts";

/** Linear maps of one layer; a fused module computes several, their outputs concatenated in this order. */
export type ProjectionPlace = {
  readonly kind: "projections";
  readonly layer: number;
  readonly projections: readonly Projection[];
};

/** The embedding is taken as the linear map from one-hot tokens to hidden states. */
export type ModulePlace = ProjectionPlace | { readonly kind: "embedding" } | { readonly kind: "head" };

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

const maxPathLength = 500; // far beyond any module's; patterns are matched against paths

/** Multimodal checkpoints nest the text model as language_model. Null for what no adapter may change. */
export function placeOf(path: string): ModulePlace | null {
  if (path.length > maxPathLength) return null;
  const module = /^(?:model\.|language_model\.)*(.+)$/.exec(path)?.[1] ?? "";
  if (module === "embed_tokens") return { kind: "embedding" };
  if (module === "lm_head") return { kind: "head" };
  const [, layer, name = ""] = /^layers\.(0|[1-9]\d{0,5})\.([a-z_]+\.[a-z_]+)$/.exec(module) ?? [];
  if (!Object.hasOwn(projectionsOf, name)) return null;
  const projections = projectionsOf[name as keyof typeof projectionsOf];
  return { kind: "projections", layer: Number(layer), projections };
}

export function isInside(place: ModulePlace, { layers }: AdapterTargets): boolean {
  return place.kind !== "projections" || place.layer < layers;
}

/** Widths of the stored module, fused outputs together. */
export function widthsOf(
  place: ModulePlace,
  targets: AdapterTargets,
): { readonly in: number; readonly out: number } {
  const { hiddenSize: hidden, vocabSize: vocab } = targets;
  if (place.kind === "embedding") return { in: vocab, out: hidden };
  if (place.kind === "head") return { in: hidden, out: vocab };
  const shapes = place.projections.map((projection) => targets.shapes[projection]);
  return { in: shapes[0]!.in, out: shapes.reduce((sum, { out }) => sum + out, 0) };
}
