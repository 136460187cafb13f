// One batch of sequences forward through the layers, through the output head, and back: a list of units of work, each
// some tens of milliseconds, between which the caller may do anything else. Layer by layer, and within a layer window
// by window (backwards: last to first), so that a layer's weights are widened once for all windows.
//
// Kept per trained layer: its input, keys and values; the rest is recomputed going back (FlexLLM, arXiv 2402.18789),
// but for the last layers' linear maps, whose results are kept too as far as the memory for it goes.

import type { Embeddings } from "../embeddings.ts";
import type { ModelConfig } from "../model-config.ts";
import { type Feeds, floatTensor, type Session } from "../session.ts";
import { HeadLoss } from "./head-loss.ts";
import type { LayerFeeds, LayerState } from "./layer-feeds.ts";
import { keptNames, layerInputs, layerOutputs } from "./layer-names.ts";
import type { LowRankParameters, TrainedModule } from "./low-rank-parameters.ts";
import type { PreparedWeights } from "./prepared-weights.ts";
import { cut, type TokenLayout, type TokenRange } from "./token-layout.ts";

export type TrainingUnit = {
  readonly kind: "forward" | "loss" | "backward";
  readonly tokens: number;
  /** To be called once, and to end before the next unit is asked for. */
  readonly run: () => Promise<void>;
};

export type PassParts = {
  readonly config: ModelConfig;
  readonly embeddings: Embeddings;
  readonly weights: PreparedWeights;
  readonly feeds: LayerFeeds;
  readonly sessions: Readonly<Record<SessionName, Session>>;
  readonly keptBytesPerToken: number; // of a layer
  readonly keptBytes: number; // of one pass, at most
  readonly windowTokens: number;
  readonly headSliceRows: number;
};

export type PassAdapter = {
  readonly modules: readonly TrainedModule[];
  readonly train: boolean; // whether backward() will be asked for
};

export type SessionName = "forward" | "forwardKeeping" | "backward" | "backwardKept" | "loss" | "logprobs";

type KeyValueGradients = { readonly keys: Float32Array; readonly values: Float32Array };

export class TrainingPass {
  readonly #parts: PassParts;
  readonly #layout: TokenLayout;
  readonly #modules: readonly TrainedModule[];
  readonly #train: boolean;
  readonly #firstKept: number; // layer; none is kept where nothing is trained
  readonly #firstKeptWhole: number; // layer from which linear maps' results are kept
  readonly #states = new Map<number, LayerState>();
  readonly #kept = new Map<string, Feeds>(); // of backward runs, by layer and window
  #hidden: Float32Array; // [tokens, hidden]: forward, the input of the next layer; backward, the gradient there
  #loss: HeadLoss | null = null;

  constructor(parts: PassParts, layout: TokenLayout, { modules, train }: PassAdapter) {
    const { layers, hiddenSize } = parts.config;
    this.#parts = parts;
    this.#layout = layout;
    this.#modules = modules;
    this.#train = train;
    this.#firstKept = train ? Math.min(layers, ...modules.map(({ layer }) => layer)) : layers;
    const layerBytes = layout.tokenIds.length * parts.keptBytesPerToken;
    this.#firstKeptWhole = Math.max(this.#firstKept, layers - Math.floor(parts.keptBytes / layerBytes));
    this.#hidden = new Float32Array(layout.tokenIds.length * hiddenSize);
    parts.embeddings.lookup(layout.tokenIds, this.#hidden);
  }

  *forward(): Generator<TrainingUnit, void> {
    const { config, weights, windowTokens, headSliceRows } = this.#parts;
    for (let layer = 0; layer < config.layers; layer++) {
      const state = { hidden: this.#hidden, ...this.#newKeyValues() };
      const isKept = layer >= this.#firstKept;
      if (isKept) this.#states.set(layer, state);
      const output = isKept ? new Float32Array(this.#hidden.length) : this.#hidden;
      for (const window of this.#layout.windows) {
        yield unitOf("forward", window, () => this.#forward(layer, window, { state, output }));
      }
      this.#hidden = output;
    }
    const norm = { weight: weights.finalNorm, epsilon: config.normEpsilon };
    const train = this.#train;
    const loss = new HeadLoss(this.#layout.scored, { hidden: this.#hidden, norm, train });
    const session = this.#parts.sessions[train ? "loss" : "logprobs"];
    for (const slice of cut(config.vocabSize, headSliceRows)) {
      for (const range of cut(this.#layout.scored.length, windowTokens)) {
        yield unitOf("loss", range, () => {
          const rows = weights.headSlice(slice.from, slice.to - slice.from);
          return loss.addSlice(session, rows, range);
        });
      }
    }
    this.#loss = loss;
  }

  /** Log-probabilities of the scored tokens, once forward() is through and until backward() starts. [scored] */
  logprobs(): Float64Array {
    return this.#readyLoss().logprobs();
  }

  /**
   * Adds the loss' gradients to `gradients`, laid out as the adapter's modules are.
   * @param slopes [scored], of the loss by each log-probability
   */
  *backward(slopes: ArrayLike<number>, gradients: LowRankParameters): Generator<TrainingUnit, void> {
    if (!this.#train) throw new RangeError("the pass was opened without training");
    this.#hidden = this.#readyLoss().hiddenGradient(slopes);
    this.#loss = null;
    const { layers } = this.#parts.config;
    for (let layer = layers - 1; layer >= this.#firstKept; layer--) {
      const keyValues = this.#newKeyValues();
      const targets = gradients.modules.filter((module) => module.layer === layer);
      for (const window of this.#layout.windows.toReversed()) {
        yield unitOf("backward", window, async () => {
          const outputs = await this.#backward(layer, window, keyValues);
          for (const { projection, a, b } of targets) {
            addTo(a, outputs[layerOutputs.aGradient(projection)]!);
            addTo(b, outputs[layerOutputs.bGradient(projection)]!);
          }
        });
      }
      this.#states.delete(layer);
    }
  }

  #readyLoss(): HeadLoss {
    if (this.#loss === null) throw new RangeError("the forward pass is not through, or is used up");
    return this.#loss;
  }

  async #forward(
    layer: number,
    window: TokenRange,
    { state, output }: { readonly state: LayerState; readonly output: Float32Array },
  ): Promise<void> {
    const keeps = layer >= this.#firstKeptWhole;
    const session = this.#parts.sessions[keeps ? "forwardKeeping" : "forward"];
    const outputs = await session.run(this.#layerFeeds(layer, window, state));
    if (keeps) this.#kept.set(`${layer} ${window.from}`, keptFeeds(outputs, window.to - window.from));
    const keyWidth = this.#keyWidth;
    output.set(outputs[layerOutputs.output]!, window.from * this.#parts.config.hiddenSize);
    state.keys.set(outputs[layerOutputs.keys]!, window.from * keyWidth);
    state.values.set(outputs[layerOutputs.values]!, window.from * keyWidth);
  }

  async #backward(
    layer: number,
    window: TokenRange,
    { keys, values }: KeyValueGradients,
  ): Promise<Record<string, Float32Array>> {
    const { from, to } = window;
    const { config, sessions } = this.#parts;
    const keyWidth = this.#keyWidth;
    const rows = (data: Float32Array, width: number) =>
      floatTensor(data.subarray(from * width, to * width), [to - from, width]);
    const state = this.#states.get(layer)!;
    const place = `${layer} ${from}`;
    const kept = this.#kept.get(place);
    const outputs = await sessions[kept === undefined ? "backward" : "backwardKept"].run({
      ...this.#layerFeeds(layer, window, state),
      ...(kept === undefined ? {} : { ...kept, [layerInputs.kept("v")]: rows(state.values, keyWidth) }),
      [layerInputs.outputGradient]: rows(this.#hidden, config.hiddenSize),
      [layerInputs.keysGradient]: rows(keys, keyWidth),
      [layerInputs.valuesGradient]: rows(values, keyWidth),
    });
    this.#kept.delete(place);
    this.#hidden.set(outputs[layerOutputs.hiddenGradient]!, from * config.hiddenSize);
    const first = this.#layout.firstSeen(layer, window) * keyWidth;
    addTo(keys.subarray(first), outputs[layerOutputs.pastKeysGradient]!);
    addTo(values.subarray(first), outputs[layerOutputs.pastValuesGradient]!);
    return outputs;
  }

  #layerFeeds(layer: number, window: TokenRange, state: LayerState) {
    const { feeds } = this.#parts;
    return {
      ...feeds.weights(layer),
      ...feeds.adapter(this.#modules.filter((module) => module.layer === layer)),
      ...feeds.window(layer, window, { layout: this.#layout, state }),
    };
  }

  get #keyWidth(): number {
    return this.#parts.config.kvHeads * this.#parts.config.headDim;
  }

  #newKeyValues(): { keys: Float32Array; values: Float32Array } {
    const size = this.#layout.tokenIds.length * this.#keyWidth;
    return { keys: new Float32Array(size), values: new Float32Array(size) };
  }
}

function unitOf(
  kind: TrainingUnit["kind"],
  { from, to }: TokenRange,
  run: () => Promise<void>,
): TrainingUnit {
  return { kind, tokens: to - from, run };
}

/** What a forward run kept, for the backward run of the same window. */
function keptFeeds(outputs: Record<string, Float32Array>, count: number): Feeds {
  const feeds: Feeds = {};
  for (const name of keptNames) {
    const data = outputs[layerOutputs.kept(name)];
    if (data !== undefined) feeds[layerInputs.kept(name)] = floatTensor(data, [count, data.length / count]);
  }
  return feeds;
}

function addTo(sum: Float32Array, addend: Float32Array): void {
  for (let i = 0; i < addend.length; i++) sum[i]! += addend[i]!;
}
