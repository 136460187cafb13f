// IST (Yao et al., arXiv 2410.11772): each step moves layers drawn by importance. Every `period` steps importance is
// measured: half of the layers answer at a quarter of their strength, and where the loss hardly minds, those layers
// matter less. As in the authors' code, a layer's score says how little it matters.

import { mix, randomAt } from "../../../kernels/sampling/random.ts";
import type { TrainingUnit } from "../../../kernels/training/training-pass.ts";
import { measureAll } from "../../example-pass.ts";
import type { State } from "../method.ts";
import type { ChoiceOptions, LayerChoice, LayerSelection, SelectionOptions } from "./layer-selection.ts";

// The authors' values.
const candidates = 3;
const suppressedShare = 0.5;
const suppression = 0.25;
const scoreRate = 10;

export const ist = (options: SelectionOptions): LayerSelection => new ImportanceSelection(options);

class ImportanceSelection implements LayerSelection {
  readonly #options: SelectionOptions;
  #scores: Float64Array<ArrayBuffer> | null = null; // [layers that are trained]

  constructor(options: SelectionOptions) {
    this.#options = options;
  }

  *choose(options: ChoiceOptions): Generator<TrainingUnit, LayerChoice, void> {
    const { period, count, seed } = this.#options;
    const { step } = options;
    const isDue = step > 0 && step % period === 0;
    const scores = isDue ? yield* this.#measured(options) : this.#current();
    const weights = scores.map((score) => sigmoid(-score));
    const layers = this.#options.layers();
    const drawn = drawWithout(weights, count, mix(seed + mix(step)));
    return {
      layers: drawn.map((place) => layers[place]!),
      keep: () => {
        this.#scores = scores;
      },
    };
  }

  state(): State {
    return { values: {}, arrays: { importance: this.#current() } };
  }

  restore({ arrays: { importance } }: State): void {
    if (!(importance instanceof Float64Array && importance.length === this.#options.layers().length)) {
      throw new RangeError("the checkpoint has no importance of these layers");
    }
    this.#scores = importance.slice();
  }

  #current(): Float64Array<ArrayBuffer> {
    this.#scores ??= new Float64Array(this.#options.layers().length);
    return this.#scores;
  }

  *#measured({
    step,
    passes,
    modules,
  }: ChoiceOptions): Generator<TrainingUnit, Float64Array<ArrayBuffer>, void> {
    const scores = this.#current();
    const chances = scores.map(sigmoid);
    const layers = this.#options.layers();
    const size = Math.max(1, Math.floor(layers.length * suppressedShare));
    const trials: { readonly places: readonly number[]; readonly reward: number }[] = [];
    for (let candidate = 1; candidate <= candidates; candidate++) {
      const places = drawWithout(chances, size, mix(this.#options.seed + mix(step) + candidate));
      const weak = new Set(places.map((place) => layers[place]!));
      const { loss, weight } = yield* measureAll(
        passes,
        modules.map((module) =>
          weak.has(module.layer) ? { ...module, scale: module.scale * suppression } : module,
        ),
      );
      trials.push({ places, reward: Math.exp(-loss / weight) });
    }
    const mean = trials.reduce((sum, { reward }) => sum + reward, 0) / trials.length;
    const moved = scores.slice();
    for (const { places, reward } of trials) {
      for (const place of places) {
        moved[place]! += scoreRate * (reward - mean) * chances[place]! * (1 - chances[place]!);
      }
    }
    return moved.every(Number.isFinite) ? moved : scores;
  }
}

/** Places drawn one after another without putting back, each by its weight; ascending. All where there are no more. */
function drawWithout(weights: Float64Array, count: number, seed: number): number[] {
  const left = weights.slice();
  return Array.from({ length: Math.min(count, left.length) }, (_, draw) => {
    let rest = randomAt(seed, draw) * left.reduce((sum, weight) => sum + weight, 0);
    const place = left.findIndex((weight) => {
      rest -= weight;
      return rest < 0;
    });
    const drawn = place === -1 ? left.findLastIndex((weight) => weight > 0) : place; // the sum was rounded
    left[drawn] = 0;
    return drawn;
  }).sort((one, other) => one - other);
}

function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}
