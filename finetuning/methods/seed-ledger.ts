// Values that move by a seed ledger alone: initial values, and steps of (seed, scalar) after them, kept as the log that
// they are. The codecs that replay a ledger in a container are the ones that make the values here.

import {
  addSigns,
  type LedgerStep,
  type LedgerValues,
  PlainValues,
} from "../../adapters-store/codecs/ledger.ts";
import {
  encodeMaskedShape,
  MaskedValues,
  type Masks,
  maskedInitial,
} from "../../adapters-store/codecs/masked-ledger.ts";
import { bytesOf } from "../../adapters-store/codecs/tensor-codec.ts";
import type { EncodedModule } from "../../adapters-store/container/write-container.ts";
import type { AdapterTargets } from "../../kernels/adapter.ts";
import type { ModuleShape } from "../../kernels/training/low-rank-parameters.ts";
import type { TrainingUnit } from "../../kernels/training/training-pass.ts";
import type { State } from "./method.ts";

/** Values times steps that one unit replays: some ten milliseconds. */
const replayedPerUnit = 2 ** 22;

/** Two tensors of each module, A and B, in the order of a trainable's flat values. */
type LedgerTensor = { readonly from: number; readonly to: number; readonly initial: number };

function tensorsOf(shapes: readonly ModuleShape[], targets: AdapterTargets, masked: boolean): LedgerTensor[] {
  let from = 0;
  const tensor = (count: number, initial: number): LedgerTensor => {
    from += count;
    return { from: from - count, to: from, initial };
  };
  return shapes.flatMap(({ projection, rank }) => {
    const { in: width, out } = targets.shapes[projection];
    // The variance of PEFT's uniform start, either way.
    const initial = Math.fround(1 / Math.sqrt(masked ? width : 3 * width));
    return [tensor(rank * width, initial), tensor(rank * out, 0)];
  });
}

export type SeedLedgerOptions = {
  readonly shapes: readonly ModuleShape[];
  readonly targets: AdapterTargets;
  readonly masks: Masks | null; // null = every step moves every value
  readonly seed: number;
  /** Values to start from instead of those that the seed gives. */
  readonly initial: Float32Array | null;
};

export class SeedLedger {
  readonly #parts: readonly (LedgerTensor & { readonly held: LedgerValues })[];
  #log: LedgerStep[] = [];
  #replayed = 0; // steps of the log that the values have moved by

  constructor({ shapes, targets, masks, seed, initial }: SeedLedgerOptions) {
    this.#parts = tensorsOf(shapes, targets, masks !== null).map((tensor) => {
      const { from, to } = tensor;
      const values =
        initial === null
          ? initialValues(tensor, seed, masks !== null)
          : Float64Array.from(initial.subarray(from, to));
      const held = masks === null ? new PlainValues(from, values) : new MaskedValues(masks, from, values);
      return { ...tensor, held };
    });
  }

  /** The values, rounded, into `flat`. */
  write(flat: Float32Array): void {
    for (const { from, held } of this.#parts) flat.set(held.values, from);
  }

  /** `flat` and a step from there, into `moved`. */
  probe(flat: Float32Array, step: LedgerStep, moved: Float32Array): void {
    moved.set(flat);
    for (const { from, to, held } of this.#parts) held.addTo(moved.subarray(from, to), step);
  }

  /** What a step changes, here and in `flat`, in pieces to be called in order. */
  changes(step: LedgerStep, flat: Float32Array): (() => void)[] {
    return [
      () => {
        this.#log.push(step);
        this.#replayed++;
      },
      ...this.#parts.map(({ from, held }) => () => {
        held.step(step);
        flat.set(held.values, from);
      }),
    ];
  }

  /** Moves the values by what `restore` brought, some at a time. */
  *replay(): Generator<TrainingUnit, void, void> {
    const { length } = this.#log;
    const first = this.#replayed;
    if (first === length) return;
    for (const { from, to, held } of this.#parts) {
      const batch = Math.max(1, Math.floor(replayedPerUnit / (to - from)));
      for (let at = first; at < length; at += batch) {
        const steps = this.#log.slice(at, at + batch);
        const run = async () => {
          for (const step of steps) held.step(step);
        };
        yield { kind: "update", tokens: 0, run };
      }
    }
    this.#replayed = length;
  }

  state(): State {
    return {
      values: {},
      arrays: {
        "ledger.seeds": Uint32Array.from(this.#log, ({ seed }) => seed),
        "ledger.scalars": Float32Array.from(this.#log, ({ scalar }) => scalar),
      },
    };
  }

  /** To be called before the first step; `replay` does the rest. */
  restore(state: State): void {
    this.#log = ledgerSteps(state);
  }
}

/** @throws RangeError for a state without a ledger */
export function ledgerSteps({ arrays }: State): LedgerStep[] {
  const { "ledger.seeds": seeds, "ledger.scalars": scalars } = arrays;
  if (!(seeds instanceof Uint32Array && scalars instanceof Float32Array && seeds.length === scalars.length)) {
    throw new RangeError("the checkpoint has no seed ledger");
  }
  return Array.from(seeds, (seed, at) => ({ seed, scalar: scalars[at]! }));
}

function initialValues({ from, to, initial }: LedgerTensor, seed: number, masked: boolean): Float64Array {
  if (masked) return maskedInitial(initial, { seed, first: from, count: to - from });
  const values = new Float64Array(to - from);
  addSigns(values, { seed, scalar: initial }, from);
  return values;
}

export type LedgerContent = { readonly ledger: Uint8Array; readonly modules: readonly EncodedModule[] };

/** A container's modules, which decode to the values that a ledger without initial values of its own has. */
export function ledgerModules({
  shapes,
  targets,
  masks,
}: Pick<SeedLedgerOptions, "shapes" | "targets" | "masks">): EncodedModule[] {
  const tensors = tensorsOf(shapes, targets, masks !== null);
  const encoded = ({ initial }: LedgerTensor, shape: readonly number[]) =>
    masks === null
      ? { codec: "ledger" as const, shape, bytes: bytesOf(Float32Array.of(initial)) }
      : { codec: "masked-ledger" as const, shape, bytes: encodeMaskedShape({ bound: initial, ...masks }) };
  return shapes.map(({ layer, projection, rank, scale }, index): EncodedModule => {
    const { in: width, out } = targets.shapes[projection];
    return {
      kind: "low-rank",
      layer,
      projection,
      own: rank,
      scale,
      tensors: {
        a: encoded(tensors[index * 2]!, [rank, width]),
        b: encoded(tensors[index * 2 + 1]!, [rank, out]),
      },
    };
  });
}
