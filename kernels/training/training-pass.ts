// One batch of sequences forward through the layers, through the output head, and back: a list of units of work, each
// some tens of milliseconds, between which the caller may do anything else. Half a layer (attention, then MLP) at a time,
// and within it window by window (backwards: last to first), so that weights are widened once for all windows. What
// follows the last attention is done for scored tokens only: nothing else reads the others.
//
// Kept per trained layer: both halves' inputs, keys and values; the rest is recomputed going back (FlexLLM, arXiv
// 2402.18789), but for the last layers' linear maps, whose results are kept too as far as the memory for it goes.

import type { Embeddings } from "../embeddings.ts";
import type { ModelConfig } from "../model-config.ts";
import { freeOutput } from "../session.ts";
import type { FrozenWeights } from "./frozen-weights.ts";
import { type HalfOutputs, type HalfRun, HalfRuns, isIn, type KeyValueRows, type Step } from "./half-runs.ts";
import { HeadLoss } from "./head-loss.ts";
import type { IntegerRuns } from "./integer-runs.ts";
import type { LayerFeeds } from "./layer-feeds.ts";
import { type Half, halves, layerOutputs } from "./layer-names.ts";
import { LayerWeightGradients } from "./layer-weight-gradients.ts";
import type { TrainedModule } from "./low-rank-parameters.ts";
import type { Precision } from "./precision.ts";
import type { SparseDelta, SparseGradient, WeightMap, WeightPlace } from "./sparse-weights.ts";
import { cut, type TokenLayout, type TokenRange } from "./token-layout.ts";
import { addTo, gathered, joined, type Rows, scattered, withRows } from "./token-rows.ts";
import type { AdapterPlace } from "./training-device.ts";
import type { TrainingSessions } from "./training-sessions.ts";

export type TrainingUnit = {
  /** update: of the trained values, in JavaScript; probe: a run of the graph that serves */
  readonly kind: "forward" | "loss" | "backward" | "update" | "probe";
  /** Units of one sort take a time that follows from their tokens; the kind unless given. */
  readonly sort?: string;
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
  readonly integers: IntegerRuns | null; // for passes in int8
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
  readonly precision?: Precision; // float32 unless given
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

export type SessionName = `${HalfRun} ${Half}` | "outer" | "loss" | "logprobs" | "product";

/** Hidden states, or gradients by them, window by window as they came: [window's tokens, hidden] each. */
type WindowRows = Rows[];

/** What half a trained layer keeps. */
type KeptState = { readonly hidden: WindowRows; readonly keyValues: KeyValueRows | null };

export class TrainingPass {
  readonly #parts: OwnParts;
  readonly #layout: TokenLayout;
  readonly #runs: HalfRuns;
  readonly #train: boolean;
  readonly #precision: Precision;
  readonly #steps: readonly Step[];
  readonly #firstKept: number; // among the steps; none is kept where nothing is trained
  readonly #states = new Map<Step, KeptState>();
  readonly #scoredWindows: readonly TokenRange[]; // of scored tokens
  #hidden: WindowRows; // forward, the input of the next step; backward, the gradient there
  #loss: HeadLoss | null = null;

  /** @throws RangeError in int8, for an adapter that changes the frozen matrices */
  constructor(parts: OwnParts, layout: TokenLayout, adapter: PassAdapter) {
    const { modules, train, firstTrainedLayer, precision = "float32" } = adapter;
    const { layers, hiddenSize } = parts.config;
    const sparse = modules.filter(isSparse);
    if (precision === "int8" && sparse.length > 0) {
      throw new RangeError("an adapter that changes the frozen matrices goes through them in float32");
    }
    this.#parts = parts;
    this.#layout = layout;
    this.#train = train;
    this.#precision = precision;
    this.#steps = Array.from({ length: layers }, (_, layer) =>
      halves.map((half) => ({ layer, half })),
    ).flat();
    const firstTrainedStep =
      firstTrainedLayer === undefined ? this.#firstOf(modules) : firstTrainedLayer * halves.length;
    this.#firstKept = train ? firstTrainedStep : this.#steps.length;
    this.#scoredWindows = cut(layout.scored.length, parts.windowTokens);
    const layerBytes = layout.tokenIds.length * parts.keptBytesPerToken;
    const firstTrained = this.#steps[this.#firstKept]?.layer ?? layers;
    this.#runs = new HalfRuns(parts, layout, {
      modules: modules.filter((module): module is TrainedModule => !isSparse(module)),
      sparse,
      place: parts.adapterPlace,
      integers: precision === "int8" ? parts.integers : null,
      firstKept: Math.max(firstTrained, layers - Math.floor(parts.keptBytes / layerBytes)),
    });
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
    const { config, weights, headSliceRows } = this.#parts;
    for (const [index, step] of this.#steps.entries()) {
      if (this.#isLast(step)) this.#hidden = gathered(this.#hidden, this.#readTokens, this.#scoredWindows);
      const state = { hidden: this.#hidden, keyValues: this.#newKeyValues(step) };
      this.#hidden = [];
      yield* this.#opening(step, "forward");
      for (const [at, window] of this.#windowsOf(step).entries()) {
        yield unitOf({ kind: "forward", sort: this.#sortOf("forward", step) }, window, async () => {
          const inputs = { hidden: state.hidden[at]!, keyValues: state.keyValues };
          const outputs = await this.#runs.forward(step, window, inputs);
          this.#takeKeyValues(state.keyValues, window, outputs);
          this.#hidden.push(outputs[layerOutputs.output]!);
        });
      }
      if (index >= this.#firstKept) this.#states.set(step, state);
      else for (const data of [...state.hidden, ...Object.values(state.keyValues ?? {})]) freeOutput(data);
    }
    const norm = { weight: weights.finalNorm, epsilon: config.normEpsilon };
    const train = this.#train;
    const loss = new HeadLoss(this.#layout.scored, { hidden: joined(this.#hidden), norm, train });
    for (const slice of cut(config.vocabSize, headSliceRows)) {
      for (const range of this.#scoredWindows) {
        yield unitOf({ kind: "loss" }, range, async () => {
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
    this.#hidden = [];
    for (const range of this.#scoredWindows) {
      yield updateUnit(() => this.#hidden.push(loss.hiddenGradient(slopes, range)));
    }
    this.#loss = null;
    const { modules, sparse = [], whole } = gradients;
    const first = Math.max(this.#firstKept, this.#firstOf([...modules, ...sparse, ...(whole?.places ?? [])]));
    const keyValues = this.#zeroKeyValues();
    for (const step of this.#steps.slice(first).toReversed()) {
      for (const sums of Object.values(keyValues)) sums.fill(0);
      const state = this.#states.get(step)!;
      const isOwn = (module: WeightPlace) => module.layer === step.layer && isIn(step.half, module);
      const targets = modules.filter(isOwn);
      const ofWeights = new LayerWeightGradients(this.#parts, {
        sparse: sparse.filter(isOwn),
        whole: whole?.places.filter(isOwn) ?? [],
      });
      yield* this.#opening(step, "backward");
      for (const [at, window] of [...this.#windowsOf(step).entries()].toReversed()) {
        yield unitOf({ kind: "backward", sort: this.#sortOf("backward", step) }, window, async () => {
          const { [layerOutputs.hiddenGradient]: gradient, ...outputs } = await this.#runs.backward(
            step,
            window,
            {
              hidden: state.hidden[at]!,
              keyValues: state.keyValues,
              gradients: { output: this.#hidden[at]!, keyValues, factors: ofWeights.areWanted },
            },
          );
          for (const rows of [this.#hidden[at]!, state.hidden[at]!]) freeOutput(rows);
          this.#hidden[at] = gradient!;
          if (state.keyValues !== null) this.#addKeyValues(keyValues, { step, window, outputs });
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
      this.#states.delete(step);
      if (this.#isLast(step)) this.#hidden = scattered(this.#hidden, this.#readTokens, this.#layout.windows);
    }
  }

  /** A unit of its own, where sessions are opened before the first run. */
  *#opening(step: Step, kind: "forward" | "backward"): Generator<TrainingUnit, void> {
    const run = this.#runs.opening(step, kind);
    if (run !== null) yield { kind, sort: `open ${this.#sortOf(kind, step)}`, tokens: 0, run };
  }

  #sortOf(kind: "forward" | "backward", { half }: Step): string {
    return `${kind} ${half} ${this.#precision}`;
  }

  #readyLoss(): HeadLoss {
    if (this.#loss === null) throw new RangeError("the forward pass is not through, or is used up");
    return this.#loss;
  }

  /** Behind its attention only the tokens that the loss reads are of interest. */
  #isLast(step: Step): boolean {
    return step === this.#steps.at(-1);
  }

  #windowsOf(step: Step): readonly TokenRange[] {
    return this.#isLast(step) ? this.#scoredWindows : this.#layout.windows;
  }

  /** Whose hidden states the scored tokens' log-probabilities come from. */
  get #readTokens(): { readonly tokens: readonly number[]; readonly width: number } {
    return { tokens: this.#layout.scored.map(({ at }) => at - 1), width: this.#parts.config.hiddenSize };
  }

  /** The first step with one of the modules. */
  #firstOf(modules: readonly WeightPlace[]): number {
    const first = this.#steps.findIndex(({ layer, half }) =>
      modules.some((module) => module.layer === layer && isIn(half, module)),
    );
    return first === -1 ? this.#steps.length : first;
  }

  /** Where the windows' own are collected, as `withRows` does. */
  #newKeyValues({ half }: Step): KeyValueRows | null {
    if (half !== "attention") return null;
    if (this.#layout.windows.length > 1) return this.#zeroKeyValues();
    return { keys: new Float32Array(0), values: new Float32Array(0) };
  }

  #zeroKeyValues(): KeyValueRows {
    const size = this.#layout.tokenIds.length * this.#keyWidth;
    return { keys: new Float32Array(size), values: new Float32Array(size) };
  }

  #takeKeyValues(rows: KeyValueRows | null, { from }: TokenRange, outputs: HalfOutputs): void {
    if (rows === null) return;
    const at = from * this.#keyWidth;
    rows.keys = withRows(rows.keys, at, outputs[layerOutputs.keys]!);
    rows.values = withRows(rows.values, at, outputs[layerOutputs.values]!);
  }

  /** Gradients by the keys and values that the window saw of earlier ones. */
  #addKeyValues(
    sums: KeyValueRows,
    { step, window, outputs }: { step: Step; window: TokenRange; outputs: HalfOutputs },
  ): void {
    const first = this.#layout.firstSeen(step.layer, window) * this.#keyWidth;
    addTo(sums.keys.subarray(first), outputs[layerOutputs.pastKeysGradient]!);
    addTo(sums.values.subarray(first), outputs[layerOutputs.pastValuesGradient]!);
  }

  get #keyWidth(): number {
    return this.#parts.config.kvHeads * this.#parts.config.headDim;
  }
}

function unitOf(
  of: Pick<TrainingUnit, "kind" | "sort">,
  { from, to }: TokenRange,
  run: () => Promise<void>,
): TrainingUnit {
  return { ...of, tokens: to - from, run };
}

/** Work on the trained values, in JavaScript. */
export function updateUnit(run: () => void): TrainingUnit {
  return { kind: "update", tokens: 0, run: async () => run() };
}

function isSparse(module: PassModule): module is SparseDelta {
  return "indices" in module;
}
