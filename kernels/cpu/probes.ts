// Probes on the CPU: runs of the serving session that are nobody's row. Sequences lie one after another in each row and
// are cut into windows as in training; masks keep them apart.

import type { AdapterTargets } from "../adapter.ts";
import type { BaseModel } from "../base-model.ts";
import { inputNames, outputNames } from "../forward-graph.ts";
import type { ForwardProbes, ProbeOptions, TokenScores } from "../forward-probes.ts";
import { adapterTargets } from "../model-family.ts";
import { logSumExp, maximum } from "../sampling/logprobs.ts";
import { type Feeds, floatTensor, freeOutput, indexTensor } from "../session.ts";
import { SiteAdapter } from "../site-adapter.ts";
import { TokenLayout, type TokenRange, type TrainingSequence } from "../training/token-layout.ts";
import { type TrainingUnit, updateUnit } from "../training/training-pass.ts";
import { KvFeeds } from "./kv-feeds.ts";
import { ProbePast } from "./probe-past.ts";
import { ProbeSlots } from "./probe-slots.ts";
import { TokenPairs } from "./token-pairs.ts";

export class CpuProbes implements ForwardProbes {
  readonly #base: BaseModel;
  readonly #targets: AdapterTargets;
  readonly #feeds: KvFeeds;
  readonly #pairs: TokenPairs;

  constructor(base: BaseModel) {
    this.#base = base;
    this.#targets = adapterTargets(base.config);
    this.#feeds = new KvFeeds(base.config);
    this.#pairs = new TokenPairs(base);
  }

  *scores(
    sequences: readonly TrainingSequence[],
    { adapters, unitTokens }: ProbeOptions,
  ): Generator<TrainingUnit, readonly TokenScores[], void> {
    const { config } = this.#base;
    const rows = adapters.length;
    const layout = new TokenLayout(config, sequences, Math.max(1, Math.floor(unitTokens / rows)));
    const past = new ProbePast(config, rows);
    const scores = adapters.map(() => ({
      logprobs: new Float64Array(layout.scored.length),
      hits: new Uint8Array(layout.scored.length),
    }));
    let slots: ProbeSlots | null = null;
    yield updateUnit(() => {
      const ofSites = adapters.map((adapter) => new SiteAdapter(adapter, this.#targets));
      slots = new ProbeSlots(ofSites, this.#targets);
    });
    for (const [index, window] of layout.windows.entries()) {
      const next = layout.windows[index + 1];
      const kept = next === undefined ? 0 : window.to - this.#firstSeen(layout, next);
      const tokens = rows * (window.to - window.from);
      const run = () => this.#run({ layout, window, slots: slots!, past, kept, scores });
      yield { kind: "probe", tokens, run };
    }
    return scores;
  }

  async #run({ layout, window, slots, past, kept, scores }: ProbeRun): Promise<void> {
    const { session, features, config } = this.#base;
    const rows = scores.length;
    const { from, to } = window;
    const tokens = to - from;
    const scored = layout.scored.flatMap(({ at, tokenId }, place) =>
      at > from && at <= to ? [{ row: at - 1 - from, tokenId, place }] : [],
    );
    const hidden = this.#pairs.hidden(rows * tokens);
    const own = hidden.subarray(0, tokens * config.hiddenSize);
    this.#base.embeddings.lookup(layout.tokenIds.slice(from, to), own);
    for (let row = 1; row < rows; row++) hidden.copyWithin(row * own.length, 0, own.length);
    const wanted = scores.flatMap((_, row) => scored.map((token) => row * tokens + token.row));
    const outputs = await session.run({
      ...slots.feeds({ perRow: tokens, ofRun: this.#pairs.count(rows * tokens) }, features),
      ...this.#feeds.shapes(rows, tokens, past.tokens),
      ...this.#feeds.past(past.pieces, rows, past.tokens),
      ...this.#placeFeeds(layout, window, rows),
      ...this.#pairs.shapes(rows * tokens),
      ...this.#pairs.hiddenFeed(hidden),
      ...this.#pairs.wanted(wanted),
    });
    const keyValues = outputs[outputNames.newKeyValues]!;
    past.append(keyValues, kept);
    freeOutput(keyValues);
    const logits = outputs[outputNames.logits]!;
    for (let index = 0; index < wanted.length; index++) {
      const { place, tokenId } = scored[index % scored.length]!;
      const ofToken = logits.subarray(index * config.vocabSize, (index + 1) * config.vocabSize);
      const { logprobs, hits } = scores[Math.floor(index / scored.length)]!;
      logprobs[place] = ofToken[tokenId]! - logSumExp(ofToken);
      hits[place] = Number(ofToken[tokenId] === maximum(ofToken));
    }
    freeOutput(logits);
  }

  /** Rotary rows and masks, the same for every row. */
  #placeFeeds(layout: TokenLayout, window: TokenRange, rows: number): Feeds {
    const { rotaries, layerRotary, layerWindow, heads, kvHeads } = this.#base.config;
    const tokens = window.to - window.from;
    const first = this.#firstSeen(layout, window);
    const keys = window.to - first;
    const positions = BigInt64Array.from({ length: rows * tokens }, (_, place) => BigInt(place % tokens));
    const feeds: Feeds = { [inputNames.positions]: indexTensor(positions, [rows, tokens]) };
    for (const index of rotaries.keys()) {
      const { cos, sin, half } = layout.rotary(layerRotary.indexOf(index), window);
      feeds[inputNames.cos(index)] = floatTensor(cos, [tokens, half]);
      feeds[inputNames.sin(index)] = floatTensor(sin, [tokens, half]);
    }
    for (const span of new Set(layerWindow)) {
      const mask = layout.mask(layerWindow.indexOf(span), window, first);
      // One token needs no repetition over the query heads of a group: the mask's row is broadcast.
      const queries = tokens === 1 ? 1 : (heads / kvHeads) * tokens;
      feeds[inputNames.mask(span !== null)] = floatTensor(mask.subarray(0, queries * keys), [
        1,
        1,
        1,
        queries,
        keys,
      ]);
    }
    return feeds;
  }

  /** By any layer: all look at the same keys and values, and a layer's window is in its mask. */
  #firstSeen(layout: TokenLayout, window: TokenRange): number {
    const { layerWindow } = this.#base.config;
    return Math.min(
      ...[...new Set(layerWindow)].map((span) => layout.firstSeen(layerWindow.indexOf(span), window)),
    );
  }
}

type ProbeRun = {
  readonly layout: TokenLayout;
  readonly window: TokenRange;
  readonly slots: ProbeSlots;
  readonly past: ProbePast;
  readonly kept: number; // tokens that later windows look at
  readonly scores: readonly TokenScores[]; // [rows], filled in
};
