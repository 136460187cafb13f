// AdaLoRA (Zhang et al., arXiv 2303.10512): modules as singular values between two matrices that are kept near
// orthogonal, delta = B diag(values) A. Ranks that matter least lose their value, until the target's number is left.

import type { AdapterTargets, LowRankModule } from "../../kernels/adapter.ts";
import { mix, randomAt } from "../../kernels/sampling/random.ts";
import type {
  LowRankParameters,
  ModuleShape,
  TrainedModule,
} from "../../kernels/training/low-rank-parameters.ts";
import { SettingsError } from "../settings.ts";
import { addOrthogonality } from "./adalora-orthogonality.ts";
import { type BudgetSchedule, highest, Importance, type RankPlaces, rankBudget } from "./adalora-ranks.ts";
import { stateValue } from "./layer-optimizers.ts";
import { type LowRankStart, LowRankTrainable, layerSegments, scaled } from "./low-rank/low-rank-trainable.ts";
import type { Segment, State, Step } from "./method.ts";

const startDeviation = 0.02; // of B, where an initialiser leaves it at zero: else nothing would ever move

export type AdaloraOptions = Pick<BudgetSchedule, "firstStep" | "lastStep" | "interval"> & {
  readonly targets: AdapterTargets;
  readonly shapes: readonly ModuleShape[];
  readonly seed: number;
  readonly targetRank: number; // average
  readonly orthogonality: number;
};

/** Places in `flat`: singular values, then A, then B, module by module. */
type ModulePlaces = { readonly values: number; readonly a: number; readonly b: number; readonly end: number };

export class AdaloraTrainable implements LowRankStart {
  flat: Float32Array<ArrayBuffer> = new Float32Array(0);
  readonly #options: AdaloraOptions;
  readonly #product: LowRankTrainable; // as passes see it: A times its values
  #places: readonly ModulePlaces[] = [];
  #ranks: readonly RankPlaces[] = [];
  #importance = new Importance(0);
  #kept = new Uint8Array(0); // by rank
  #isFinal = false;

  /** @throws SettingsError for a target that is no reduction */
  constructor(options: AdaloraOptions) {
    this.#options = options;
    this.#product = new LowRankTrainable(options.targets, options.shapes);
    this.#open();
  }

  /** Where B is zero, as initialisers leave it, the values start at zero instead: the product is the same. */
  begin(start: LowRankParameters): void {
    this.#product.begin(start);
    this.#open();
    for (const [module, { a, b }] of start.modules.entries()) {
      const places = this.#places[module]!;
      const isZero = b.every((value) => value === 0);
      this.flat.fill(isZero ? 0 : 1, places.values, places.a);
      this.flat.set(a, places.a);
      const seed = mix(this.#options.seed + mix(module ^ 0xada));
      const random = (_: number, i: number) => (2 * randomAt(seed, i) - 1) * startDeviation * Math.sqrt(3);
      this.flat.set(isZero ? b.map(random) : b, places.b);
    }
  }

  get segments(): readonly Segment[] {
    return layerSegments(
      this.#product.modules().map(({ layer }, module) => {
        const { values, end } = this.#places[module]!;
        return [layer, end - values];
      }),
    );
  }

  modules(given: Float32Array = this.flat): readonly TrainedModule[] {
    const modules = this.#product.modules();
    for (const index of modules.keys()) this.#multiply(index, given);
    return modules;
  }

  /** One module of the product. */
  #multiply(index: number, given: Float32Array): TrainedModule {
    const module = this.#product.modules()[index]!;
    const { rank, a, b } = module;
    const places = this.#places[index]!;
    const width = a.length / rank;
    for (let i = 0; i < a.length; i++) {
      a[i] = given[places.a + i]! * given[places.values + Math.floor(i / width)]!;
    }
    b.set(given.subarray(places.b, places.end));
    return module;
  }

  addGradient(layer: number, ofModules: LowRankParameters, gradient: Float32Array): void {
    const { flat } = this;
    const weight = this.#options.orthogonality / (2 * this.#places.length);
    for (const [module, { layer: own, rank, a, b }] of ofModules.modules.entries()) {
      if (own !== layer) continue;
      const places = this.#places[module]!;
      const width = a.length / rank;
      for (let i = 0; i < a.length; i++) {
        const value = places.values + Math.floor(i / width);
        gradient[places.a + i]! += a[i]! * flat[value]!;
        gradient[value]! += a[i]! * flat[places.a + i]!;
      }
      for (let i = 0; i < b.length; i++) gradient[places.b + i]! += b[i]!;
      for (const [from, to] of [[places.a, places.b] as const, [places.b, places.end] as const]) {
        addOrthogonality(flat.subarray(from, to), gradient.subarray(from, to), { rows: rank, weight });
      }
    }
  }

  /**
   * Layer by layer, then the choice. Importance is an average over the steps that moved a layer. Of a layer that none
   * has moved nothing is known: its ranks stay, and the others have their share of the budget.
   */
  moved({ index }: Step, gradient: Float32Array, layers: readonly number[]): (() => void)[] {
    const done = index + 1;
    const { firstStep, interval } = this.#options;
    const lose = () => {
      for (const [rank, { value }] of this.#ranks.entries()) if (this.#kept[rank] === 0) this.flat[value] = 0;
    };
    if (this.#isFinal) return [lose];
    const schedule = this.#schedule();
    const isLast = done >= schedule.lastStep;
    const { segments } = this;
    const watched = segments
      .filter(({ layer }) => layers.includes(layer))
      .map((part) => () => this.#importance.add(this.flat, gradient, part));
    if (!isLast && (done <= firstStep || done % interval !== 0)) return watched;
    const scores = new Map<number, number>(); // by rank
    const scored = segments.map((part) => () => {
      if (!this.#importance.isKnown(part)) return;
      for (const [rank, places] of this.#ranks.entries()) {
        if (places.value >= part.from && places.value < part.to)
          scores.set(rank, this.#importance.score(places));
      }
    });
    const choose = () => {
      const share = (rankBudget(done, schedule) * scores.size) / this.#ranks.length;
      const chosen = highest([...scores.values()], Math.floor(share));
      this.#kept.fill(1);
      for (const [at, rank] of [...scores.keys()].entries()) this.#kept[rank] = chosen[at]!;
      this.#isFinal = isLast;
      lose();
    };
    return [...(isLast ? [] : watched), ...scored, choose];
  }

  /** Without the ranks that lost their value; a module without any is left out. */
  *served(): Generator<LowRankModule, void, void> {
    let first = 0;
    for (const index of this.#places.keys()) {
      const { layer, projection, rank, scale, a, b } = this.#multiply(index, this.flat);
      const own = this.#ranks.slice(first, first + rank);
      const kept = Array.from(own.keys()).filter(
        (row) => this.#kept[first + row] === 1 || this.flat[own[row]!.value] !== 0,
      );
      first += rank;
      if (kept.length === 0) continue;
      const ofKept = { a: rowsOf(a, rank, kept), b: scaled(rowsOf(b, rank, kept), scale) };
      yield { kind: "low-rank", layer, projection, rank: kept.length, ...ofKept };
    }
  }

  state(): State {
    const { sensitivity, uncertainty } = this.#importance;
    return {
      values: { ...this.#product.state().values, isFinal: Number(this.#isFinal) },
      arrays: { sensitivity, uncertainty, kept: this.#kept },
    };
  }

  restore(state: State): void {
    this.#product.restore(state);
    this.#open();
    this.#isFinal = stateValue(state.values, "isFinal") === 1;
    const { sensitivity, uncertainty } = this.#importance;
    for (const [name, own] of Object.entries({ sensitivity, uncertainty, kept: this.#kept })) {
      const stored = state.arrays[name];
      if (stored?.length !== own.length) throw new RangeError(`the checkpoint's "${name}" is another job's`);
      own.set(stored);
    }
  }

  /** Zeros for the product's modules. */
  #open(): void {
    let at = 0;
    const places: ModulePlaces[] = [];
    const ranks: RankPlaces[] = [];
    for (const { rank, a, b } of this.#product.modules()) {
      const own = { values: at, a: at + rank, b: at + rank + a.length, end: at + rank + a.length + b.length };
      places.push(own);
      for (let row = 0; row < rank; row++) {
        const part = (from: number, width: number) => ({
          from: from + row * width,
          to: from + (row + 1) * width,
        });
        ranks.push({ value: at + row, a: part(own.a, a.length / rank), b: part(own.b, b.length / rank) });
      }
      at = own.end;
    }
    this.#places = places;
    this.#ranks = ranks;
    this.flat = new Float32Array(at);
    this.#importance = new Importance(at);
    this.#kept = new Uint8Array(ranks.length).fill(1);
    this.#isFinal = false;
    this.#schedule();
  }

  #schedule(): BudgetSchedule {
    const { targetRank, firstStep, lastStep, interval } = this.#options;
    const initial = this.#ranks.length;
    const target = targetRank * this.#places.length;
    checkTarget(targetRank, { initial, modules: this.#places.length });
    return { initial, target, firstStep, lastStep, interval };
  }
}

/**
 * @param initial ranks of all modules together
 * @throws SettingsError for a target that is no reduction
 */
export function checkTarget(
  targetRank: number,
  { initial, modules }: { readonly initial: number; readonly modules: number },
): void {
  if (targetRank * modules < initial) return;
  throw new SettingsError(
    "method.adapter.adalora_target_rank",
    `${targetRank} is not below the modules' average rank of ${initial / modules}; lower it or raise rank`,
  );
}

/** Some of a matrix' rows. */
function rowsOf(matrix: Float32Array, rows: number, chosen: readonly number[]): Float32Array<ArrayBuffer> {
  const width = matrix.length / rows;
  const out = new Float32Array(chosen.length * width);
  for (const [at, row] of chosen.entries()) {
    out.set(matrix.subarray(row * width, (row + 1) * width), at * width);
  }
  return out;
}
