// What a LoRA does to a projection's outputs beside its low-rank part: DoRA's magnitude and trained biases, as
// y = (W x + bias + B A x) scale + shift.

import { AdapterError } from "../../../kernels/errors.ts";
import { openBase } from "../base.ts";
import { type ProjectionPlace, widthsOf } from "../module-places.ts";
import type { StoredLowRank } from "../module-set.ts";
import { type PeftAdapter, type StoredModule, weightsName } from "./tensors.ts";

export const doraMagnitude = "lora_magnitude_vector";
const rowsAtOnce = 256;

type Floats = Float32Array<ArrayBuffer>;
type Given = { readonly module: StoredModule<ProjectionPlace>; readonly lowRank: StoredLowRank | null };

/** [out] each, or null where outputs are left as they are. */
export function loraOutputScale(
  adapter: PeftAdapter,
  { module, lowRank }: Given,
): { readonly scale: Floats; readonly shift: Floats | null } | null {
  const { out } = widthsOf(module.place, adapter.targets);
  const magnitude =
    adapter.fields.flag("use_dora") && lowRank !== null ? module.read(doraMagnitude, [out], "[out]") : null;
  const trainedBias = module.has("bias") ? module.read("bias", [out], "[out]") : null;
  const addedBias =
    adapter.fields.flag("lora_bias") && lowRank !== null ? module.read("lora_B.bias", [out], "[out]") : null;
  if (magnitude === null && trainedBias === null && addedBias === null) return null;
  const scale = new Float32Array(out).fill(1);
  const shift = new Float32Array(out);
  if (magnitude !== null || trainedBias !== null) {
    const norms = magnitude === null ? null : weightNorms(adapter, module.place, lowRank!);
    const bias = baseBias(adapter, module, trainedBias !== null);
    for (let i = 0; i < out; i++) {
      if (norms !== null) scale[i] = magnitude![i]! / norms[i]!;
      // The magnitude scales W x + B A x alone, so the bias is put back unscaled.
      shift[i] = (trainedBias ?? bias)[i]! - scale[i]! * bias[i]!;
    }
  }
  if (addedBias !== null) for (let i = 0; i < out; i++) shift[i]! += addedBias[i]! * lowRank!.scale;
  return { scale, shift: shift.some((value) => value !== 0) ? shift : null };
}

/**
 * DoRA's ||W + scale B A|| of every output, over the checkpoint's own weights: PEFT would dequantize those that it
 * was trained on, and a base that is served quantized has lost them.
 */
function weightNorms(
  { targets }: PeftAdapter,
  { layer, projections }: ProjectionPlace,
  { path, rank, a, b, scale }: StoredLowRank,
): Float64Array {
  using base = openBase(targets, `DoRA on ${path} needs the norms of the base's weights`);
  const norms = new Float64Array(b.length / rank);
  const inWidth = a.length / rank;
  const row = new Float64Array(inWidth);
  let at = 0; // in the outputs of all projections
  for (const projection of projections) {
    const { out } = targets.shapes[projection];
    for (let first = 0; first < out; first += rowsAtOnce) {
      const count = Math.min(rowsAtOnce, out - first);
      const weights = base.rows({ layer, projection }, first, count);
      for (let index = 0; index < count; index++, at++) {
        row.set(weights.subarray(index * inWidth, (index + 1) * inWidth));
        for (let j = 0; j < rank; j++) {
          const factor = b[at * rank + j]! * scale;
          const start = j * inWidth;
          for (let i = 0; i < inWidth; i++) row[i]! += factor * a[start + i]!;
        }
        let sum = 0;
        for (let i = 0; i < inWidth; i++) sum += row[i]! * row[i]!;
        norms[at] = Math.sqrt(sum);
      }
    }
  }
  return norms;
}

/** Zeros where the base has none, unless one is `needed`: PEFT trains no bias that is not there. */
function baseBias(
  { targets }: PeftAdapter,
  { path, place }: StoredModule<ProjectionPlace>,
  needed: boolean,
): Floats {
  using base = openBase(targets, `${path} is changed relative to the base's bias`);
  const { layer, projections } = place;
  const biases = projections.map((projection) => base.bias({ layer, projection }));
  if (needed && biases.includes(null)) {
    throw new AdapterError(
      "module_not_supported",
      `${weightsName} holds a bias of ${path}, where the base has none; train the adapter on this base`,
    );
  }
  return Float32Array.from(
    projections.flatMap((projection, i) =>
      Array.from(biases[i] ?? new Float32Array(targets.shapes[projection].out)),
    ),
  );
}
