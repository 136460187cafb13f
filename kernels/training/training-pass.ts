// One batch of sequences forward through the layers, through the output head, and back: a list of units of work, each
// some tens of milliseconds, between which the caller may do anything else. Layer by layer, and within a layer window
// by window (backwards: last to first), so that a layer's weights are widened once for all windows.
//
// Kept per layer: its input and its keys and values; the rest is recomputed going back (FlexLLM, arXiv 2402.18789).

import type { Projection } from "../adapter.ts";
import { projections } from "../adapter.ts";
import type { Embeddings } from "../embeddings.ts";
import type { ModelConfig } from "../model-config.ts";
import { adapterTargets } from "../model-family.ts";
import { type Feeds, floatTensor, indexTensor, type Session } from "../session.ts";
import { HeadLoss } from "./head-loss.ts";
import { layerInputs, layerOutputs } from "./layer-graph.ts";
import type { LowRankParameters, TrainedModule } from "./low-rank-parameters.ts";
import type { PreparedWeights } from "./prepared-weights.ts";
import { cut, type TokenLayout, type TokenRange } from "./token-layout.ts";

export type TrainingUnit = {
  readonly kind: "forward" | "loss" | "backward";
  readonly tokens: number;
  /** Once, and before the next unit is asked for. */
  readonly run: () => Promise<void>;
};

export type PassParts = {
  readonly config: ModelConfig;
  readonly embeddings: Embeddings;
  readonly weights: PreparedWeights;
  readonly sessions: { readonly forward: Session; readonly backward: Session; readonly loss: Session };
  readonly windowTokens: number;
  readonly headSliceRows: number;
};

/** What one layer leaves for its backward pass. */
type LayerState = {
  readonly hidden: Float32Array; // [tokens, hidden], its input
  readonly keys: Float32Array; // [tokens, kvHeads * headDim]
  readonly values: Float32Array;
};

export class TrainingPass {
  readonly #parts: PassParts;
  readonly #layout: TokenLayout;
  readonly #modules: ReadonlyMap<string, TrainedModule>;
  readonly #firstTrained: number; // layer; config.layers where nothing is trained
  readonly #kept = new Map<number, LayerState>();
  #hidden: Float32Array; // [tokens, hidden]: forward, the output of the layer reached; backward, the gradient there
  #loss: HeadLoss | null = null;

  /** @param train whether backward() will be asked for */
  constructor(
    parts: PassParts,
    layout: TokenLayout,
    adapter: { readonly modules: readonly TrainedModule[]; readonly train: boolean },
  ) {
    this.#parts = parts;
    this.#layout = layout;
    this.#modules = new Map(adapter.modules.map((module) => [placeOf(module), module]));
    const { layers, hiddenSize } = parts.config;
    this.#firstTrained = adapter.train
      ? adapter.modules.reduce((first, { layer }) => Math.min(first, layer), layers)
      : layers;
    this.#hidden = new Float32Array(layout.tokenIds.length * hiddenSize);
    parts.embeddings.lookup(layout.tokenIds, this.#hidden);
  }

  *forward(): Generator<TrainingUnit, void> {
    const { config, weights, sessions, windowTokens, headSliceRows } = this.#parts;
    for (let layer = 0; layer < config.layers; layer++) {
      const state = this.#newState();
      if (layer >= this.#firstTrained) this.#kept.set(layer, state);
      const output = layer >= this.#firstTrained ? new Float32Array(this.#hidden.length) : this.#hidden;
      for (const window of this.#layout.windows) {
        yield unit("forward", window, () => this.#forward(layer, window, { state, output }));
      }
      this.#hidden = output;
    }
    const norm = { weight: weights.finalNorm, epsilon: config.normEpsilon };
    const loss = new HeadLoss(this.#layout.scored, this.#hidden, norm);
    for (const slice of cut(config.vocabSize, headSliceRows)) {
      for (const range of cut(this.#layout.scored.length, windowTokens)) {
        yield unit("loss", range, () =>
          loss.addSlice(sessions.loss, weights.headSlice(slice.from, slice.to - slice.from), range),
        );
      }
    }
    this.#loss = loss;
  }

  /** Log-probabilities of the scored tokens, once forward() is through. [scored] */
  get logprobs(): Float64Array {
    if (this.#loss === null) throw new RangeError("the forward pass is not through");
    return this.#loss.logprobs();
  }

  /**
   * Adds the loss' gradients to `gradients`, whose modules are laid out as the trained ones.
   * @param slopes [scored], of the loss by each log-probability
   */
  *backward(slopes: ArrayLike<number>, gradients: LowRankParameters): Generator<TrainingUnit, void> {
    if (this.#loss === null) throw new RangeError("the forward pass is not through");
    const { layers, kvHeads, headDim } = this.#parts.config;
    this.#hidden = this.#loss.hiddenGradient(slopes);
    this.#loss = null;
    const targets = new Map(gradients.modules.map((module) => [placeOf(module), module]));
    const size = this.#layout.tokenIds.length * kvHeads * headDim;
    const keyValues = { keys: new Float32Array(size), values: new Float32Array(size) };
    for (let layer = layers - 1; layer >= this.#firstTrained; layer--) {
      keyValues.keys.fill(0);
      keyValues.values.fill(0);
      for (const window of this.#layout.windows.toReversed()) {
        yield unit("backward", window, () => this.#backward(layer, window, { keyValues, targets }));
      }
      this.#kept.delete(layer);
    }
  }

  async #forward(
    layer: number,
    window: TokenRange,
    { state, output }: { readonly state: LayerState; readonly output: Float32Array },
  ): Promise<void> {
    const { hiddenSize, kvHeads, headDim } = this.#parts.config;
    const { from, to } = window;
    state.hidden.set(this.#hidden.subarray(from * hiddenSize, to * hiddenSize), from * hiddenSize);
    const outputs = await this.#parts.sessions.forward.run(this.#layerFeeds(layer, window, state));
    output.set(outputs[layerOutputs.output]!, from * hiddenSize);
    state.keys.set(outputs[layerOutputs.keys]!, from * kvHeads * headDim);
    state.values.set(outputs[layerOutputs.values]!, from * kvHeads * headDim);
  }
}
