// Seed ledger: an adapter trained without gradients is a list of (seed, scalar), from which its tensors are made
// again (FedKSeed, arXiv 2312.06353). Every step moved every value by its scalar times a sign that seed and place
// give; docs/container.md spells out the bits.
//
//   shared by a container's tensors: u32 initial seed | (u32 seed | f32 scalar) of each step
//   a tensor: f32 deviation of its initial values

import { AdapterError } from "../../kernels/errors.ts";
import { mix } from "../../kernels/sampling/random.ts";
import { assertLength, type Floats, malformedTensor, type TensorCodec, viewOf } from "./tensor-codec.ts";

export type LedgerStep = { readonly seed: number; readonly scalar: number };

/** Values times steps that one tensor may ask for: a minute of one core. */
const largestReplay = 2 ** 35;
const chunk = 4096; // values whose sums stay in the cache while all steps pass; a multiple of 32

export const ledger: TensorCodec<Floats> = {
  decode(bytes, count, { bytes: shared, first }) {
    assertLength(bytes, 4);
    if (shared.length < 4 || shared.length % 8 !== 4) {
      throw malformedTensor(`the ledger has ${shared.length} bytes, which are not a seed and steps`);
    }
    const view = viewOf(shared);
    const steps: LedgerStep[] = [
      { seed: view.getUint32(0, true), scalar: viewOf(bytes).getFloat32(0, true) },
    ];
    for (let at = 4; at < shared.length; at += 8) {
      steps.push({ seed: view.getUint32(at, true), scalar: view.getFloat32(at + 4, true) });
    }
    return replay(steps, first, count);
  },
};

export function encodeLedger(initialSeed: number, steps: readonly LedgerStep[]): Uint8Array {
  const bytes = new Uint8Array(4 + steps.length * 8);
  const view = viewOf(bytes);
  view.setUint32(0, initialSeed, true);
  for (const [i, { seed, scalar }] of steps.entries()) {
    view.setUint32(4 + i * 8, seed, true);
    view.setFloat32(8 + i * 8, scalar, true);
  }
  return bytes;
}

/** Values `first` to `first + count`: the sums over all steps, in double precision and in their order. */
export function replay(steps: readonly LedgerStep[], first: number, count: number): Floats {
  if (steps.length * count > largestReplay) {
    throw new AdapterError(
      "container_too_large",
      `a ledger of ${steps.length} steps over ${count} values takes too long to replay; publish the adapter in another codec`,
    );
  }
  const values = new Float32Array(count);
  const sums = new Float64Array(chunk);
  const end = first + count;
  for (let from = first - (first % 32); from < end; from += chunk) {
    sums.fill(0);
    const blocks = Math.min(chunk, end - from) / 32;
    for (const step of steps) addSigns(sums, { step, firstBlock: from / 32, blocks });
    for (let i = Math.max(from, first); i < Math.min(from + chunk, end); i++)
      values[i - first] = sums[i - from]!;
  }
  return values;
}

/** Adds or subtracts the step's scalar, by one bit of a 32-bit word for each value. */
function addSigns(
  sums: Float64Array,
  given: { readonly step: LedgerStep; readonly firstBlock: number; readonly blocks: number },
): void {
  const { step, firstBlock, blocks } = given;
  const { seed, scalar } = step;
  const key = mix(seed ^ 0x9e3779b9);
  const salt = mix(seed + 0x7f4a7c15);
  for (let i = 0; i < blocks; i++) {
    const block = firstBlock + i;
    const word = mix(mix(key + block) ^ salt ^ block);
    const at = i * 32;
    for (let bit = 0; bit < 32; bit++) {
      sums[at + bit] = sums[at + bit]! + (((word >>> bit) & 1) * 2 - 1) * scalar;
    }
  }
}
