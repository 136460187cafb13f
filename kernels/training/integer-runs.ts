// Runs halves of layers whose graphs hold their weights as integers, in sessions of each layer's own, opened when a
// pass first asks for them. There is one graph each way: it gives all that can be kept, and takes it, so that no matrix
// is held twice. Passes and what is fed are others' business.

import type { ModelConfig } from "../model-config.ts";
import { type Feeds, freeOutput, Session } from "../session.ts";
import { fastestCoding } from "./fastest-coding.ts";
import { halfModels } from "./half-models.ts";
import { type HalfOutputs, type HalfRun, keptFeeds, type Step } from "./half-runs.ts";
import type { IntegerCoding } from "./integer-coding.ts";
import { IntegerGraph } from "./integer-graph.ts";
import { IntegerWeights } from "./integer-weights.ts";
import { type Half, halves, keptNames, layerInputs, layerOutputs } from "./layer-names.ts";
import { ModelWeights } from "./model-weights.ts";
import type { PreparedWeights } from "./prepared-weights.ts";
import { TrainingSessions } from "./training-sessions.ts";

/** Each session has threads of its own, which wait while others run. */
const mostThreads = 1024;
const graphs = { forward: "forwardKeeping", backward: "backwardKept" } as const;
const keptOutputs: ReadonlySet<string> = new Set(keptNames.map(layerOutputs.kept));

export class IntegerRuns {
  readonly #sessions: readonly TrainingSessions<`${HalfRun} ${Half}`>[]; // by layer

  constructor(
    config: ModelConfig,
    prepared: PreparedWeights,
    {
      threads,
      coding = fastestCoding(),
    }: { readonly threads: number; readonly coding?: IntegerCoding | undefined },
  ) {
    const { layers } = prepared.layout;
    const sessions = layers.length * halves.length * Object.keys(graphs).length;
    const ownThreads = Math.min(threads, 1 + Math.floor(mostThreads / sessions));
    this.#sessions = layers.map((layer) => {
      const weights = new IntegerWeights(prepared, layer, coding);
      return new TrainingSessions(async (name) => {
        const file = new ModelWeights();
        const models = halfModels({ config, layer, newGraph: () => new IntegerGraph(weights, file) });
        // Working memory that each of so many sessions kept would be more than the weights.
        return file.with(models[name](), (modelPath) =>
          Session.open({ modelPath, threads: ownThreads, keepMemory: false }),
        );
      });
    });
  }

  /** What opens the sessions that runs of the half need, which takes longer than one; null where they are open. */
  opening({ layer, half }: Step, way: "forward" | "backward"): (() => Promise<void>) | null {
    const sessions = this.#sessions[layer]!;
    const name = `${graphs[way]} ${half}` as const;
    return sessions.isOpen(name) ? null : async () => void (await sessions.get(name));
  }

  /** @throws RangeError for gradients by the matrices, which would be wanted exact */
  async run(run: HalfRun, step: Step, feeds: Feeds): Promise<HalfOutputs> {
    switch (run) {
      case "forwardKeeping":
      case "backwardKept":
        return this.#run(run, step, feeds);
      case "forward": {
        const { kept, rest } = apart(await this.#run("forwardKeeping", step, feeds));
        free(kept);
        return rest;
      }
      case "backward": {
        const { kept, rest } = apart(await this.#run("forwardKeeping", step, feeds));
        free(rest);
        const tokens = feeds[layerInputs.hidden]!.dims[0]!;
        const outputs = await this.#run("backwardKept", step, { ...feeds, ...keptFeeds(kept, tokens) });
        free(kept);
        return outputs;
      }
      default:
        throw new RangeError(`there is no ${run} of integers`);
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#sessions.map((sessions) => sessions.close()));
  }

  async #run(
    run: "forwardKeeping" | "backwardKept",
    { layer, half }: Step,
    feeds: Feeds,
  ): Promise<HalfOutputs> {
    return (await this.#sessions[layer]!.get(`${run} ${half}`)).run(feeds);
  }
}

/** What a run keeps, and what it gives. */
function apart(outputs: HalfOutputs): Record<"kept" | "rest", HalfOutputs> {
  const isKept = ([name]: readonly [string, unknown]) => keptOutputs.has(name);
  const entries = Object.entries(outputs);
  return {
    kept: Object.fromEntries(entries.filter(isKept)),
    rest: Object.fromEntries(entries.filter((entry) => !isKept(entry))),
  };
}

function free(outputs: HalfOutputs): void {
  for (const rows of Object.values(outputs)) freeOutput(rows);
}
