// One batch of sequences forward through the layers, through the output head, and back: a list of units of work, each
// some tens of milliseconds, between which the caller may do anything else. Layer by layer, and within a layer window
// by window (backwards: last to first), so that a layer's weights are widened once for all windows.
//
// Kept per trained layer: its input, keys and values; the rest is recomputed going back (FlexLLM, arXiv 2402.18789),
// but for the last layers' linear maps, whose results are kept too as far as the memory for it goes.

import type { Embeddings } from "../embeddings.ts";
import type { ModelConfig } from "../model-config.ts";
import { type Feeds, floatTensor, freeOutput } from "../session.ts";
import type { FrozenWeights } from "./frozen-weights.ts";
import { HeadLoss } from "./head-loss.ts";
import type { LayerFeeds, LayerState } from "./layer-feeds.ts";
import { keptNames, layerInputs, layerOutputs } from "./layer-names.ts";
import { LayerWeightGradients } from "./layer-weight-gradients.ts";
import type { TrainedModule } from "./low-rank-parameters.ts";
import type { SparseDelta, SparseGradient, WeightMap, WeightPlace } from "./sparse-weights.ts";
import { cut, type TokenLayout, type TokenRange } from "./token-layout.ts";
import { addTo, joined, type Rows, withRows } from "./token-rows.ts";
import type { AdapterPlace, TrainingSession } from "./training-device.ts";
import type { TrainingSessions } from "./training-sessions.ts";

export type TrainingUnit = {
  /** update: of the trained values, in JavaScript; probe: a run of the graph that serves */
  readonly kind: "forward" | "loss" | "backward" | "update" | "probe";
  readonly tokens: number;
  /** To be called once, and to end before the next unit is asked for, or any other unit of the kernel runs. */
  readonly run: () => Promise<void>;
};

export type PassParts = {
  readonly config: ModelConfig;
  readonly embeddings: Embeddings;
  readonly weights: FrozenWeights;
  readonly feeds: LayerFeeds;
  readonly places: WeightMap;
  readonly sessions: TrainingSessions<SessionName>;
  readonly keptBytesPerToken: number; // of a layer
  readonly keptBytes: number; // of one pass, at most
  readonly windowTokens: number;
  readonly headSliceRows: number;
};

type OwnParts = PassParts & { readonly adapterPlace: AdapterPlace };

/** What changes the base in a pass. */
export type PassModule = TrainedModule | SparseDelta;

export type PassAdapter = {
  readonly modules: readonly PassModule[];
  readonly train: boolean; // whether backward() will be asked for
  readonly firstTrainedLayer?: number; // backward() stops there; else at the first layer with a module
  readonly windowTokens?: number; // of a unit; else the kernel's
};

/** What backward() adds to, all of it layer by layer from the last: only layers from the lowest named one are run. */
export type PassGradients = {
  readonly modules: readonly TrainedModule[]; // gradients in place of values, of some of the pass's modules
  readonly sparse?: readonly SparseGradient[];
  readonly whole?: {
    readonly places: readonly WeightPlace[];
    /** @param gradient [out, in] of the whole pass; the array is the receiver's */
    readonly receive: (place: WeightPlace, gradient: Float32Array) => void;
  };
};

export type SessionName =
  | "forward"
  | "forwardKeeping"
  | "backward"
  | "backwardKept"
  | "backwardFactors"
  | "backwardKeptFactors"
  | "outer"
  | "loss"
  | "logprobs"
  | "moments"
  | "product";

/** Hidden states, or gradients by them, window by window as they came: [window's tokens, hidden] each. */
type WindowRows = Rows[];

/** What a trained layer keeps. */
type KeptState = KeyValueRows & { readonly hidden: WindowRows };

/** Of all tokens. */
type KeyValueRows = { keys: Rows; values: Rows };

export class TrainingPass {
  readonly #parts: OwnParts;
  readonly #layout: TokenLayout;
  readonly #modules: readonly TrainedModule[];
  readonly #adapterFeeds = new Map<number, Feeds>(); // by layer
  readonly #sparse: readonly SparseDelta[];
  readonly #train: boolean;
  readonly #firstKept: number; // layer; none is kept where nothing is trained
  readonly #firstKeptWhole: number; // layer from which linear maps' results are kept
  readonly #states = new Map<number, KeptState>();
  readonly #kept = new Map<string, Feeds>(); // of backward runs, by layer and window
  #hidden: WindowRows; // forward, the input of the next layer; backward, the gradient there
  #loss: HeadLoss | null = null;

  constructor(parts: OwnParts, layout: TokenLayout, { modules, train, firstTrainedLayer }: PassAdapter) {
    const { layers, hiddenSize } = parts.config;
    this.#parts = parts;
    this.#layout = layout;
    this.#sparse = modules.filter(isSparse);
    this.#modules = modules.filter((module): module is TrainedModule => !isSparse(module));
    this.#train = train;
    this.#firstKept = train
      ? (firstTrainedLayer ?? Math.min(layers, ...modules.map(({ layer }) => layer)))
      : layers;
    const layerBytes = layout.tokenIds.length * parts.keptBytesPerToken;
    this.#firstKeptWhole = Math.max(this.#firstKept, layers - Math.floor(parts.keptBytes / layerBytes));
    this.#hidden = layout.windows.map(({ from, to }) => {
      const rows = new Float32Array((to - from) * hiddenSize);
      parts.embeddings.lookup(layout.tokenIds.slice(from, to), rows);
      return rows;
    });
  }

  *forward(): Generator<TrainingUnit, void> {
    let isUsedAgain = false;
    try {
      yield* this.#forwardUnits();
      isUsedAgain = this.#train;
    } finally {
      if (!isUsedAgain) this.#parts.adapterPlace.release();
    }
  }

  *#forwardUnits(): Generator<TrainingUnit, void> {
    const { config, weights, windowTokens, headSliceRows } = this.#parts;
    for (let layer = 0; layer < config.layers; layer++) {
      const hidden = this.#hidden;
      const isOneWindow = this.#layout.windows.length === 1;
      const newRows = () => new Float32Array(isOneWindow ? 0 : this.#layout.tokenIds.length * this.#keyWidth);
      const state = { hidden, keys: newRows(), values: newRows() };
      this.#hidden = [];
      for (const [index, window] of this.#layout.windows.entries()) {
        yield unitOf("forward", window, async () => {
          this.#hidden.push(await this.#forward(layer, index, state));
        });
      }
      if (layer >= this.#firstKept) this.#states.set(layer, state);
      else for (const data of [...hidden, state.keys, state.values]) freeOutput(data);
    }
    const norm = { weight: weights.finalNorm, epsilon: config.normEpsilon };
    const train = this.#train;
    const hidden = joined(this.#hidden);
    const loss = new HeadLoss(this.#layout.scored, { hidden, norm, train });
    for (const slice of cut(config.vocabSize, headSliceRows)) {
      for (const range of cut(this.#layout.scored.length, windowTokens)) {
        yield unitOf("loss", range, async () => {
          const session = await this.#parts.sessions.get(train ? "loss" : "logprobs");
          const rows = await weights.headRows(slice.from, slice.to - slice.from);
          await loss.addSlice(session, rows, range);
        });
      }
    }
    this.#loss = loss;
  }

  /** Log-probabilities of the scored tokens, once forward() is through and until backward() starts. [scored] */
  logprobs(): Float64Array {
    return this.#readyLoss().logprobs();
  }

  /** Whether no token is likelier than the scored one: 1 or 0, as long as there are log-probabilities. [scored] */
  hits(): Uint8Array {
    return this.#readyLoss().hits();
  }

  /**
   * Adds the loss' gradients to `gradients`.
   * @param slopes [scored], of the loss by each log-probability
   */
  *backward(slopes: ArrayLike<number>, gradients: PassGradients): Generator<TrainingUnit, void> {
    try {
      yield* this.#backwardUnits(slopes, gradients);
    } finally {
      this.#parts.adapterPlace.release();
    }
  }

  *#backwardUnits(slopes: ArrayLike<number>, gradients: PassGradients): Generator<TrainingUnit, void> {
    if (!this.#train) throw new RangeError("the pass was opened without training");
    const loss = this.#readyLoss();
    const { config, windowTokens } = this.#parts;
    const { layers, hiddenSize } = config;
    const gradient = new Float32Array(this.#layout.tokenIds.length * hiddenSize);
    for (const range of cut(this.#layout.scored.length, windowTokens)) {
      yield updateUnit(() => loss.addHiddenGradient(slopes, range, gradient));
    }
    this.#hidden = this.#layout.windows.map(({ from, to }) =>
      gradient.slice(from * hiddenSize, to * hiddenSize),
    );
    this.#loss = null;
    const { modules, sparse = [], whole } = gradients;
    const wanted = [...modules, ...sparse, ...(whole?.places ?? [])].map(({ layer }) => layer);
    const first = Math.max(this.#firstKept, Math.min(layers, ...wanted));
    const size = this.#layout.tokenIds.length * this.#keyWidth;
    const keyValues = { keys: new Float32Array(size), values: new Float32Array(size) };
    for (let layer = layers - 1; layer >= first; layer--) {
      for (const sums of Object.values(keyValues)) sums.fill(0);
      const inLayer = ({ layer: own }: { readonly layer: number }) => own === layer;
      const targets = modules.filter(inLayer);
      const ofWeights = new LayerWeightGradients(this.#parts, {
        sparse: sparse.filter(inLayer),
        whole: whole?.places.filter(inLayer) ?? [],
      });
      for (const [index, window] of [...this.#layout.windows.entries()].toReversed()) {
        yield unitOf("backward", window, async () => {
          const outputs = await this.#backward(layer, index, { ...keyValues, factors: ofWeights.areWanted });
          for (const { projection, a, b } of targets) {
            addTo(a, outputs[layerOutputs.aGradient(projection)]!);
            addTo(b, outputs[layerOutputs.bGradient(projection)]!);
          }
          await ofWeights.add(outputs, window.to - window.from);
          for (const output of Object.values(outputs)) freeOutput(output);
        });
      }
      for (const [place, gradient] of ofWeights.take()) {
        yield updateUnit(() => whole?.receive(place, gradient));
      }
      this.#states.delete(layer);
    }
  }

  #readyLoss(): HeadLoss {
    if (this.#loss === null) throw new RangeError("the forward pass is not through, or is used up");
    return this.#loss;
  }

  /** @returns the layer's output for the window */
  async #forward(layer: number, index: number, state: KeptState): Promise<Rows> {
    const window = this.#layout.windows[index]!;
    const keeps = layer >= this.#firstKeptWhole;
    const session = await this.#parts.sessions.get(keeps ? "forwardKeeping" : "forward");
    const outputs = await this.#runLayer(session, layer, await this.#layerFeeds(layer, index, state));
    if (keeps) this.#kept.set(`${layer} ${window.from}`, keptFeeds(outputs, window.to - window.from));
    const at = window.from * this.#keyWidth;
    state.keys = withRows(state.keys, at, outputs[layerOutputs.keys]!);
    state.values = withRows(state.values, at, outputs[layerOutputs.values]!);
    return outputs[layerOutputs.output]!;
  }

  async #backward(
    layer: number,
    index: number,
    { keys, values, factors }: KeyValueRows & { readonly factors: boolean },
  ): Promise<Record<string, Float32Array<ArrayBuffer>>> {
    const window = this.#layout.windows[index]!;
    const { from, to } = window;
    const { config, sessions } = this.#parts;
    const keyWidth = this.#keyWidth;
    const rows = (data: Float32Array, width: number) =>
      floatTensor(data.subarray(from * width, to * width), [to - from, width]);
    const state = this.#states.get(layer)!;
    const place = `${layer} ${from}`;
    const kept = this.#kept.get(place);
    const keyValues = {
      [layerInputs.kept("keys")]: rows(state.keys, keyWidth),
      [layerInputs.kept("v")]: rows(state.values, keyWidth),
    };
    const session = await sessions.get(backwardSession(kept !== undefined, factors));
    const { [layerOutputs.hiddenGradient]: gradient, ...outputs } = await this.#runLayer(session, layer, {
      ...(await this.#layerFeeds(layer, index, state)),
      ...(kept === undefined ? {} : { ...kept, ...keyValues }),
      [layerInputs.outputGradient]: floatTensor(this.#hidden[index]!, [to - from, config.hiddenSize]),
      [layerInputs.keysGradient]: rows(keys, keyWidth),
      [layerInputs.valuesGradient]: rows(values, keyWidth),
    });
    this.#kept.delete(place);
    for (const { data } of Object.values(kept ?? {})) freeOutput(data as Float32Array<ArrayBuffer>);
    freeOutput(this.#hidden[index]!);
    this.#hidden[index] = gradient!;
    const first = this.#layout.firstSeen(layer, window) * keyWidth;
    addTo(keys.subarray(first), outputs[layerOutputs.pastKeysGradient]!);
    addTo(values.subarray(first), outputs[layerOutputs.pastValuesGradient]!);
    return outputs;
  }

  /** The sparse changes are on the shared weights for this one run: whoever is next finds the base's own. */
  async #runLayer(session: TrainingSession, layer: number, feeds: Feeds) {
    const deltas = this.#sparse.filter((delta) => delta.layer === layer);
    const weights = await this.#parts.weights.layer(layer, deltas);
    try {
      return await session.run({ ...weights.feeds, ...feeds });
    } finally {
      await weights.restore();
    }
  }

  async #layerFeeds(layer: number, index: number, { hidden, keys, values }: KeptState): Promise<Feeds> {
    const { feeds, adapterPlace } = this.#parts;
    let adapter = this.#adapterFeeds.get(layer);
    if (adapter === undefined) {
      const modules = this.#modules.filter((module) => module.layer === layer);
      adapter = { ...(await adapterPlace.put(feeds.adapter(modules))), ...feeds.ranks(modules) };
      this.#adapterFeeds.set(layer, adapter);
    }
    const state: LayerState = { hidden: hidden[index]!, keys, values };
    const window = this.#layout.windows[index]!;
    return { ...adapter, ...feeds.window(layer, window, { layout: this.#layout, state }) };
  }

  get #keyWidth(): number {
    return this.#parts.config.kvHeads * this.#parts.config.headDim;
  }
}

function unitOf(
  kind: TrainingUnit["kind"],
  { from, to }: TokenRange,
  run: () => Promise<void>,
): TrainingUnit {
  return { kind, tokens: to - from, run };
}

/** Work on the trained values, in JavaScript. */
export function updateUnit(run: () => void): TrainingUnit {
  return { kind: "update", tokens: 0, run: async () => run() };
}

function isSparse(module: PassModule): module is SparseDelta {
  return "indices" in module;
}

function backwardSession(kept: boolean, factors: boolean): SessionName {
  if (factors) return kept ? "backwardKeptFactors" : "backwardFactors";
  return kept ? "backwardKept" : "backward";
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
