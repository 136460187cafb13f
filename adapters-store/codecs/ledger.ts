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

/** One tensor's values as the steps pass: whoever trains them and whoever replays them get the same bits. */
export interface LedgerValues {
  readonly values: Float64Array;
  step(step: LedgerStep): void;
  /** Adds a step to other values in these values' places, and changes nothing here. */
  addTo(values: Float64Array | Float32Array, step: LedgerStep): void;
}

/** Values times steps that one tensor may ask for: a minute of one core. */
const largestReplay = 2 ** 35;
const chunk = 4096; // values whose sums stay in the cache while all steps pass

export const ledger: TensorCodec<Floats> = {
  decode(bytes, count, { ledger: { bytes: shared, first } }) {
    assertLength(bytes, 4);
    const { initialSeed, steps } = decodeLedger(shared);
    return replay([{ seed: initialSeed, scalar: viewOf(bytes).getFloat32(0, true) }, ...steps], first, count);
  },
};

/** What a container's tensors share. Throws AdapterError `container_tensor_malformed`. */
export function decodeLedger(shared: Uint8Array): {
  readonly initialSeed: number;
  readonly steps: readonly LedgerStep[];
} {
  if (shared.length < 4 || shared.length % 8 !== 4) {
    throw malformedTensor(`the ledger has ${shared.length} bytes, which are not a seed and steps`);
  }
  const view = viewOf(shared);
  const steps = Array.from({ length: (shared.length - 4) / 8 }, (_, i) => ({
    seed: view.getUint32(4 + i * 8, true),
    scalar: view.getFloat32(8 + i * 8, true),
  }));
  return { initialSeed: view.getUint32(0, true), steps };
}

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
  assertReplayable(steps.length, count);
  const values = new Float32Array(count);
  for (let from = 0; from < count; from += chunk) {
    const sums = new Float64Array(Math.min(chunk, count - from));
    for (const step of steps) addSigns(sums, step, first + from);
    values.set(sums, from);
  }
  return values;
}

export function assertReplayable(steps: number, count: number): void {
  if (steps * count <= largestReplay) return;
  throw new AdapterError(
    "container_too_large",
    `a ledger of ${steps} steps over ${count} values takes too long to replay; publish the adapter in another codec`,
  );
}

/** Adds the step's scalar times sign(seed, first + i) to value i. */
export function addSigns(values: Float64Array | Float32Array, step: LedgerStep, first: number): void {
  const { seed, scalar } = step;
  for (let i = 0; i < values.length; ) {
    const start = (first + i) % 32;
    const word = signWord(seed, Math.floor((first + i) / 32));
    const end = Math.min(32, start + values.length - i);
    for (let bit = start; bit < end; bit++, i++) {
      values[i] = values[i]! + (((word >>> bit) & 1) * 2 - 1) * scalar;
    }
  }
}

/** The signs of 32 places from `block * 32` on: a bit each, 1 for plus. */
export function signWord(seed: number, block: number): number {
  return mix(mix(mix(seed ^ 0x9e3779b9) + block) ^ mix(seed + 0x7f4a7c15) ^ block);
}

/** Every step moves every value. */
export class PlainValues implements LedgerValues {
  readonly values: Float64Array;
  readonly #first: number;

  /** @param values the initial ones; kept and moved */
  constructor(first: number, values: Float64Array) {
    this.#first = first;
    this.values = values;
  }

  step(step: LedgerStep): void {
    addSigns(this.values, step, this.#first);
  }

  addTo(values: Float64Array | Float32Array, step: LedgerStep): void {
    addSigns(values, step, this.#first);
  }
}
