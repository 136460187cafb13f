// Runs half a layer on one window of a pass, forward and back, and holds what the former keeps for the latter. Which
// half is next, and where its results go, is the pass' business.

import { type Feeds, floatTensor, freeOutput } from "../session.ts";
import type { IntegerRuns } from "./integer-runs.ts";
import { type Half, halfProjections, keptNames, layerInputs, layerOutputs } from "./layer-names.ts";
import type { TrainedModule } from "./low-rank-parameters.ts";
import type { SparseDelta } from "./sparse-weights.ts";
import type { TokenLayout, TokenRange } from "./token-layout.ts";
import type { Rows } from "./token-rows.ts";
import type { AdapterPlace } from "./training-device.ts";
import type { PassParts } from "./training-pass.ts";

export type Step = { readonly layer: number; readonly half: Half };

/** Of all tokens, [tokens, kvHeads * headDim] each. */
export type KeyValueRows = { keys: Rows; values: Rows };

/** What a half reads of a window: hidden states [window's tokens, hidden], in attention earlier keys and values too. */
export type HalfInputs = { readonly hidden: Rows; readonly keyValues: KeyValueRows | null };

export type HalfGradients = {
  readonly output: Rows; // [window's tokens, hidden]
  readonly keyValues: KeyValueRows; // from later tokens
  readonly factors: boolean; // whether those of the matrices' gradients are wanted
};

export type HalfOutputs = Record<string, Rows>;

/** Graphs of a half. */
export type HalfRun =
  | "forward"
  | "forwardKeeping"
  | "moments"
  | "backward"
  | "backwardKept"
  | "backwardFactors"
  | "backwardKeptFactors";

type Adapter = {
  readonly modules: readonly TrainedModule[];
  readonly sparse: readonly SparseDelta[];
  readonly place: AdapterPlace;
  readonly integers: IntegerRuns | null; // for a pass in int8, which changes nothing of the base
};

export class HalfRuns {
  readonly #parts: PassParts;
  readonly #layout: TokenLayout;
  readonly #adapter: Adapter;
  readonly #firstKept: number;
  readonly #adapterFeeds = new Map<number, Feeds>(); // by layer
  readonly #kept = new Map<string, Feeds>(); // of backward runs, by step and window

  /** @param firstKept layer from which linear maps' results are kept */
  constructor(parts: PassParts, layout: TokenLayout, options: Adapter & { readonly firstKept: number }) {
    this.#parts = parts;
    this.#layout = layout;
    this.#adapter = options;
    this.#firstKept = options.firstKept;
  }

  /** What opens sessions that runs of the half need; null where all are open. */
  opening({ layer, half }: Step, way: "forward" | "backward"): (() => Promise<void>) | null {
    return this.#adapter.integers?.opening({ layer, half }, way) ?? null;
  }

  async forward(step: Step, window: TokenRange, inputs: HalfInputs): Promise<HalfOutputs> {
    const keeps = step.layer >= this.#firstKept;
    const feeds = await this.#feeds(step, window, inputs);
    const outputs = await this.#run(keeps ? "forwardKeeping" : "forward", step, feeds);
    if (keeps) this.#kept.set(placeOf(step, window), keptFeeds(outputs, window.to - window.from));
    return outputs;
  }

  async backward(
    step: Step,
    window: TokenRange,
    { gradients, ...inputs }: HalfInputs & { readonly gradients: HalfGradients },
  ): Promise<HalfOutputs> {
    const { config } = this.#parts;
    const { from, to } = window;
    const keyWidth = config.kvHeads * config.headDim;
    const rows = (data: Float32Array) =>
      floatTensor(data.subarray(from * keyWidth, to * keyWidth), [to - from, keyWidth]);
    const feeds = await this.#feeds(step, window, inputs);
    feeds[layerInputs.outputGradient] = floatTensor(gradients.output, [to - from, config.hiddenSize]);
    const place = placeOf(step, window);
    const kept = this.#kept.get(place);
    Object.assign(feeds, kept);
    if (inputs.keyValues !== null) {
      feeds[layerInputs.keysGradient] = rows(gradients.keyValues.keys);
      feeds[layerInputs.valuesGradient] = rows(gradients.keyValues.values);
      feeds[layerInputs.kept("keys")] = rows(inputs.keyValues.keys);
      feeds[layerInputs.kept("v")] = rows(inputs.keyValues.values);
    }
    const outputs = await this.#run(backwardRun(kept !== undefined, gradients.factors), step, feeds);
    this.#kept.delete(place);
    for (const { data } of Object.values(kept ?? {})) freeOutput(data as Rows);
    return outputs;
  }

  /** The sparse changes are on the shared weights for this one run: whoever is next finds the base's own. */
  async #run(run: HalfRun, { layer, half }: Step, feeds: Feeds): Promise<HalfOutputs> {
    const { integers } = this.#adapter;
    if (integers !== null) return integers.run(run, { layer, half }, feeds);
    const { sessions, weights } = this.#parts;
    const session = await sessions.get(`${run} ${half}`);
    const deltas = this.#adapter.sparse.filter((delta) => delta.layer === layer && isIn(half, delta));
    const fed = await weights.layer(layer, deltas);
    try {
      return await session.run({ ...fed.feeds, ...feeds });
    } finally {
      await fed.restore();
    }
  }

  async #feeds(step: Step, window: TokenRange, inputs: HalfInputs): Promise<Feeds> {
    const { feeds } = this.#parts;
    let adapter = this.#adapterFeeds.get(step.layer);
    if (adapter === undefined) {
      const modules = this.#adapter.modules.filter((module) => module.layer === step.layer);
      adapter = { ...(await this.#adapter.place.put(feeds.adapter(modules))), ...feeds.ranks(modules) };
      this.#adapterFeeds.set(step.layer, adapter);
    }
    const { hidden, keyValues } = inputs;
    const own = { ...adapter, ...feeds.hidden(hidden) };
    if (keyValues === null) return own;
    return { ...own, ...feeds.attention(step.layer, window, { layout: this.#layout, ...keyValues }) };
  }
}

/** Whether the module's projection is in the half. */
export function isIn(half: Half, { projection }: Pick<TrainedModule, "projection">): boolean {
  return (halfProjections[half] as readonly string[]).includes(projection);
}

function placeOf({ layer, half }: Step, { from }: TokenRange): string {
  return `${layer} ${half} ${from}`;
}

function backwardRun(kept: boolean, factors: boolean): HalfRun {
  if (factors) return kept ? "backwardKeptFactors" : "backwardFactors";
  return kept ? "backwardKept" : "backward";
}

/** What a forward run kept, for the backward run of the same window. */
export function keptFeeds(outputs: HalfOutputs, count: number): Feeds {
  const feeds: Feeds = {};
  for (const name of keptNames) {
    const data = outputs[layerOutputs.kept(name)];
    if (data !== undefined) feeds[layerInputs.kept(name)] = floatTensor(data, [count, data.length / count]);
  }
  return feeds;
}
