// Masked seed ledger: as a seed ledger, but every step moved only the values that were small when the mask was last
// made (Sparse MeZO, arXiv 2402.15751), and the initial values are uniform, so that some are. The mask follows from
// the values, and these from the steps before: nothing else is stored.
//
//   shared by a container's tensors: u32 initial seed | (u32 seed | f32 scalar) of each step
//   a tensor: f32 bound of its initial values | f32 share that a mask names | u32 steps that a mask is for

import { assertReplayable, decodeLedger, type LedgerStep, type LedgerValues, signWord } from "./ledger.ts";
import { assertLength, type Floats, malformedTensor, type TensorCodec, viewOf } from "./tensor-codec.ts";

export type Masks = {
  readonly share: number; // in (0, 1], a 32-bit float: how many of the values a mask names, the smallest by magnitude
  readonly maskSteps: number;
};

export type MaskedShape = Masks & { readonly bound: number }; // of the initial values; a 32-bit float

type Place = { readonly seed: number; readonly first: number; readonly count: number };

/** One mask, in value-steps: the magnitudes are sorted. */
const maskCost = 64;

export const maskedLedger: TensorCodec<Floats> = {
  decode(bytes, count, { ledger: { bytes: shared, first } }) {
    assertLength(bytes, 12);
    const view = viewOf(bytes);
    const shape = {
      bound: view.getFloat32(0, true),
      share: view.getFloat32(4, true),
      maskSteps: view.getUint32(8, true),
    };
    if (!(shape.share > 0 && shape.share <= 1) || shape.maskSteps === 0) {
      throw malformedTensor("a masked ledger's share or steps of a mask are out of range");
    }
    const { initialSeed, steps } = decodeLedger(shared);
    assertReplayable(steps.length + (1 + steps.length / shape.maskSteps) * maskCost, count);
    const initial = maskedInitial(shape.bound, { seed: initialSeed, first, count });
    const tensor = new MaskedValues(shape, first, initial);
    for (const step of steps) tensor.step(step);
    return Float32Array.from(tensor.values);
  },
};

export function encodeMaskedShape({ bound, share, maskSteps }: MaskedShape): Uint8Array {
  const bytes = new Uint8Array(12);
  const view = viewOf(bytes);
  view.setFloat32(0, bound, true);
  view.setFloat32(4, share, true);
  view.setUint32(8, maskSteps, true);
  return bytes;
}

/** Before the first step: uniform within the bound, by the 32 bits that seed and place give. */
export function maskedInitial(bound: number, { seed, first, count }: Place): Float64Array {
  const values = new Float64Array(count);
  for (let i = 0; i < count; i++) values[i] = (signWord(seed, first + i) / 2 ** 31 - 1) * bound;
  return values;
}

/** One tensor's values as the steps pass. */
export class MaskedValues implements LedgerValues {
  readonly values: Float64Array;
  readonly mask: Uint8Array; // 1 where the next step moves the value
  readonly #masks: Masks;
  readonly #first: number;
  #steps = 0;

  /** @param values the initial ones; kept and moved */
  constructor(masks: Masks, first: number, values: Float64Array) {
    this.#masks = masks;
    this.#first = first;
    this.values = values;
    this.mask = new Uint8Array(values.length);
    this.#makeMask();
  }

  step(step: LedgerStep): void {
    this.addTo(this.values, step);
    this.#steps++;
    if (this.#steps % this.#masks.maskSteps === 0) this.#makeMask();
  }

  addTo(values: Float64Array | Float32Array, { seed, scalar }: LedgerStep): void {
    const { mask } = this;
    for (let i = 0; i < values.length; ) {
      const start = (this.#first + i) % 32;
      const word = signWord(seed, Math.floor((this.#first + i) / 32));
      const end = Math.min(32, start + values.length - i);
      for (let bit = start; bit < end; bit++, i++) {
        if (mask[i] === 1) values[i] = values[i]! + (((word >>> bit) & 1) * 2 - 1) * scalar;
      }
    }
  }

  #makeMask(): void {
    const sizes = Float32Array.from(this.values, Math.abs);
    const threshold = sizes.toSorted()[Math.ceil(this.#masks.share * sizes.length) - 1]!;
    for (const [i, size] of sizes.entries()) this.mask[i] = size <= threshold ? 1 : 0;
  }
}
