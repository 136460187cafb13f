// Gradients of adapters through a frozen base, on any device: a few small sessions without weights, which are fed
// the prepared weights that serve. Knows batches of tokens; jobs, losses and optimizers it does not know.

import type { Embeddings } from "../embeddings.ts";
import { CotenantError } from "../errors.ts";
import type { ModelConfig } from "../model-config.ts";
import { adapterTargets } from "../model-family.ts";
import type { PreparedLayer, PreparedLayout } from "../prepare/layout.ts";
import { ActivationPass, buildProductGraph } from "./activation-pass.ts";
import { halfModels, keptBytesPerToken } from "./half-models.ts";
import { LayerFeeds } from "./layer-feeds.ts";
import { buildLossGraph } from "./loss-graph.ts";
import { LowRankParameters, type ModuleShape } from "./low-rank-parameters.ts";
import { buildOuterGraph } from "./outer-graph.ts";
import { WeightMap } from "./sparse-weights.ts";
import { TokenLayout, type TrainingSequence } from "./token-layout.ts";
import { type OpenTrainingDevice, openHostDevice, type TrainingDevice } from "./training-device.ts";
import { type PassAdapter, type PassParts, type SessionName, TrainingPass } from "./training-pass.ts";
import { TrainingSessions } from "./training-sessions.ts";

/** A base as `openBaseModel` prepared it. */
export type TrainingBase = {
  readonly config: ModelConfig;
  readonly layout: PreparedLayout;
  readonly dataPath: string;
  readonly embeddings: Embeddings;
};

/** What may be spent on speed. No bit of a result depends on it. */
export type SpareMemory = {
  readonly keptBytes: number; // of one pass, for what would else be recomputed going back
  readonly widenedBytes: number; // for layers, then the head, that stay in float32; others are widened for each pass
};

export type TrainingKernelOptions = {
  readonly threads: number; // 0 = the runtime's choice
  readonly windowTokens?: number;
  readonly headSliceRows?: number;
  readonly openDevice?: OpenTrainingDevice; // the CPU unless given
} & Partial<SpareMemory>; // 0 unless given

const defaultWindowTokens = 128;

export class TrainingKernel {
  readonly #device: TrainingDevice;
  #parts: PassParts;

  private constructor(device: TrainingDevice, parts: PassParts) {
    this.#device = device;
    this.#parts = parts;
  }

  /**
   * Sessions and widened weights take memory once a pass asks for them.
   * @throws CotenantError `training_unsupported`
   */
  static async open(base: TrainingBase, options: TrainingKernelOptions): Promise<TrainingKernel> {
    const { config, layout, embeddings } = base;
    const problem = untrainable(base);
    if (problem !== null) throw new CotenantError("training_unsupported", problem);
    const device = (options.openDevice ?? openHostDevice)(base, options);
    const { newGraph, weights, integers } = device;
    const models: Record<SessionName, () => Uint8Array> = {
      ...halfModels({ config, layer: layout.layers[0]!, newGraph }),
      outer: buildOuterGraph,
      loss: () => buildLossGraph(newGraph(), { hiddenSize: config.hiddenSize, mean: true }),
      logprobs: () => buildLossGraph(newGraph(), { hiddenSize: config.hiddenSize, mean: false }),
      product: buildProductGraph,
    };
    const sessions = new TrainingSessions((name: SessionName) =>
      device.openSession({ modelPath: models[name](), threads: options.threads }),
    );
    return new TrainingKernel(device, {
      config,
      embeddings,
      weights,
      feeds: new LayerFeeds(config),
      places: new WeightMap(adapterTargets(config)),
      sessions,
      integers,
      keptBytesPerToken: keptBytesPerToken({ config, layer: layout.layers[0]! }),
      keptBytes: options.keptBytes ?? 0,
      windowTokens: options.windowTokens ?? defaultWindowTokens,
      headSliceRows: options.headSliceRows ?? device.headSliceRows,
    });
  }

  /** Zeros in the layout that a pass trains and adds gradients to. */
  parameters(shapes: readonly ModuleShape[]): LowRankParameters {
    return new LowRankParameters(shapes, adapterTargets(this.#parts.config));
  }

  pass(sequences: readonly TrainingSequence[], adapter: PassAdapter): TrainingPass {
    const { config, windowTokens: ownWindowTokens } = this.#parts;
    const windowTokens = adapter.windowTokens ?? ownWindowTokens;
    if (adapter.precision === "int8" && this.#parts.integers === null) {
      throw new CotenantError("training_unsupported", "this device trains in float32 only; ask for that");
    }
    const layout = new TokenLayout(config, sequences, windowTokens);
    const adapterPlace = this.#device.adapterPlace();
    return new TrainingPass({ ...this.#parts, windowTokens, adapterPlace }, layout, adapter);
  }

  /** Of the base alone, for what its matrices read. */
  activations(batches: readonly (readonly TrainingSequence[])[], windowTokens: number): ActivationPass {
    const layouts = batches.map((sequences) => new TokenLayout(this.#parts.config, sequences, windowTokens));
    return new ActivationPass(this.#parts, layouts);
  }

  /**
   * What a pass must keep until it has gone back: per token, without what single units use and without `keptBytes`.
   * @param trainedLayers from the first trained one to the last layer
   */
  activationBytesPerToken(trainedLayers: number): number {
    const { hiddenSize, kvHeads, headDim } = this.#parts.config;
    return 4 * (trainedLayers * (hiddenSize + 2 * kvHeads * headDim) + 2 * hiddenSize);
  }

  /** What a pass keeps per token, at most, where `keptBytes` allow it. */
  get keptBytesPerToken(): number {
    return this.#device.keepsResults ? this.#parts.config.layers * this.#parts.keptBytesPerToken : 0;
  }

  /** Counts for passes that begin from now on, and at once for weights. */
  spend({ keptBytes, widenedBytes }: SpareMemory): void {
    this.#parts = { ...this.#parts, keptBytes };
    this.#parts.weights.keepWidened(widenedBytes);
  }

  async close(): Promise<void> {
    await this.#device.close();
    await this.#parts.sessions.close();
  }
}

/**
 * Why no adapter can be trained on a base; null = one can. One graph serves all layers: they must have the same parts.
 * Those of every known family do.
 */
export function untrainable({ config, layout }: Pick<TrainingBase, "config" | "layout">): string | null {
  const partsOf = (layer: PreparedLayer) =>
    Object.entries(layer).map(([name, part]) => (part === null ? "" : name));
  const [first, ...others] = layout.layers.map((layer) => partsOf(layer).join());
  const [rotary, ...otherRotaries] = config.rotaries.map(({ dimensions }) => dimensions);
  if (others.every((parts) => parts === first) && otherRotaries.every((one) => one === rotary)) return null;
  return `layers of this ${config.family} base differ in their parts; such a base can be served, but not trained on`;
}
