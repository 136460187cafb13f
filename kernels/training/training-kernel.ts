// Gradients of low-rank adapters through a frozen base, on the CPU: a few small sessions without weights, which read
// the prepared weights that serve. Knows batches of tokens; jobs, losses and optimizers it does not know.

import type { Embeddings } from "../embeddings.ts";
import { CotenantError } from "../errors.ts";
import type { ModelConfig } from "../model-config.ts";
import { adapterTargets } from "../model-family.ts";
import type { PreparedLayer, PreparedLayout } from "../prepare/layout.ts";
import { Session } from "../session.ts";
import { LayerFeeds } from "./layer-feeds.ts";
import { buildBackwardLayer, buildForwardLayer, keptWidths } from "./layer-graph.ts";
import { buildLossGraph } from "./loss-graph.ts";
import { LowRankParameters, type ModuleShape } from "./low-rank-parameters.ts";
import { PreparedWeights } from "./prepared-weights.ts";
import { TokenLayout, type TrainingSequence } from "./token-layout.ts";
import { type PassAdapter, type PassParts, type SessionName, TrainingPass } from "./training-pass.ts";

/** A base as `openBaseModel` prepared it. */
export type TrainingBase = {
  readonly config: ModelConfig;
  readonly layout: PreparedLayout;
  readonly dataPath: string;
  readonly embeddings: Embeddings;
};

export type TrainingKernelOptions = {
  readonly threads: number; // 0 = the runtime's choice
  readonly windowTokens?: number;
  readonly headSliceRows?: number;
  /** Memory of one pass for what would else be recomputed going back; 0 unless given. */
  readonly keptBytes?: number;
  /** Memory for layers whose weights stay in float32; the others are widened anew for each pass. 0 unless given. */
  readonly widenedBytes?: number;
};

const defaultWindowTokens = 128;
const defaultHeadSliceRows = 4096;

export class TrainingKernel {
  readonly #parts: PassParts;

  private constructor(parts: PassParts) {
    this.#parts = parts;
  }

  /** @throws CotenantError `training_unsupported` */
  static async open(base: TrainingBase, options: TrainingKernelOptions): Promise<TrainingKernel> {
    const { config, layout, dataPath, embeddings } = base;
    checkLayersAlike(base);
    const shape = { config, layer: layout.layers[0]! };
    const models: Record<SessionName, Uint8Array> = {
      forward: buildForwardLayer({ ...shape, keep: false }),
      forwardKeeping: buildForwardLayer({ ...shape, keep: true }),
      backward: buildBackwardLayer({ ...shape, keep: false }),
      backwardKept: buildBackwardLayer({ ...shape, keep: true }),
      loss: buildLossGraph(config.hiddenSize, { mean: true }),
      logprobs: buildLossGraph(config.hiddenSize, { mean: false }),
    };
    const { threads } = options;
    const opened = Object.entries(models).map(
      async ([name, model]) => [name, await Session.open({ modelPath: model, threads })] as const,
    );
    const weights = new PreparedWeights(layout, dataPath, options.widenedBytes ?? 0);
    return new TrainingKernel({
      config,
      embeddings,
      weights,
      feeds: new LayerFeeds(config, weights),
      sessions: Object.fromEntries(await Promise.all(opened)) as Record<SessionName, Session>,
      keptBytesPerToken: 4 * [...keptWidths(shape).values()].reduce((sum, width) => sum + width, 0),
      keptBytes: options.keptBytes ?? 0,
      windowTokens: options.windowTokens ?? defaultWindowTokens,
      headSliceRows: options.headSliceRows ?? defaultHeadSliceRows,
    });
  }

  /** Zeros in the layout that a pass trains and adds gradients to. */
  parameters(shapes: readonly ModuleShape[]): LowRankParameters {
    return new LowRankParameters(shapes, adapterTargets(this.#parts.config));
  }

  pass(sequences: readonly TrainingSequence[], adapter: PassAdapter): TrainingPass {
    const { config, windowTokens } = this.#parts;
    return new TrainingPass(this.#parts, new TokenLayout(config, sequences, windowTokens), adapter);
  }

  /**
   * What a pass must keep until it has gone back: per token, without what single units use and without `keptBytes`.
   * @param trainedLayers from the first trained one to the last layer
   */
  activationBytesPerToken(trainedLayers: number): number {
    const { hiddenSize, kvHeads, headDim } = this.#parts.config;
    return 4 * (trainedLayers * (hiddenSize + 2 * kvHeads * headDim) + 2 * hiddenSize);
  }

  async close(): Promise<void> {
    this.#parts.weights.close();
    await Promise.all(Object.values(this.#parts.sessions).map((session) => session.close()));
  }
}

/** One graph serves all layers: they must have the same parts. Those of every known family do. */
function checkLayersAlike({ config, layout }: TrainingBase): void {
  const partsOf = (layer: PreparedLayer) =>
    Object.entries(layer).map(([name, part]) => (part === null ? "" : name));
  const [first, ...others] = layout.layers.map((layer) => partsOf(layer).join());
  const [rotary, ...otherRotaries] = config.rotaries.map(({ dimensions }) => dimensions);
  if (others.every((parts) => parts === first) && otherRotaries.every((one) => one === rotary)) return;
  throw new CotenantError(
    "training_unsupported",
    `layers of this ${config.family} base differ in their parts; such a base can be served, but not trained on`,
  );
}
