// Draws one token from one row of logits. The order of the steps is vLLM's: bias, bans, penalties, temperature,
// min_p, top_k, top_p, draw. Everything depends on the request alone, so neighbours in a batch change nothing.

import { drawKnown, drawToken, hasNucleus, nucleusCounts } from "./draw-token.ts";
import {
  type KnownLogits,
  type LogitChange,
  type LogitsQuery,
  mostCandidates,
  type TokenLogits,
} from "./logits-query.ts";
import { argmax, logSumExp, type RankedToken, topIndices } from "./logprobs.ts";
import { randomAt } from "./random.ts";

export type SamplerOptions = {
  readonly temperature: number; // 0 = greedy
  readonly topP: number; // 1 = off
  readonly topK: number; // 0 = off
  readonly minP: number; // 0 = off
  readonly repetitionPenalty: number; // 1 = off
  readonly presencePenalty: number; // 0 = off
  readonly frequencyPenalty: number; // 0 = off
  readonly logitBias: readonly (readonly [tokenId: number, bias: number])[];
  readonly seed: number; // unsigned 32-bit
};

/** The most likely token, nothing adjusted. */
export const greedySampling: SamplerOptions = {
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: [],
  seed: 0,
};

export type Draw = {
  readonly tokenId: number;
  /** Of the unmodified distribution; null unless asked for. */
  readonly logprob: number | null;
  readonly top: readonly RankedToken[];
};

export class Sampler {
  readonly #options: SamplerOptions;
  readonly #prompt: ReadonlySet<number>;
  readonly #counts = new Map<number, number>(); // of the tokens drawn so far
  #draws = 0;

  constructor(options: SamplerOptions, promptTokenIds: readonly number[]) {
    this.#options = options;
    this.#prompt = new Set(options.repetitionPenalty === 1 ? [] : promptTokenIds);
  }

  /**
   * What the next draw needs to know; null where it needs all logits. The draw is the same from either, but where
   * rounding decides: of logits so close that their weights are equal, or where two tokens' shares meet.
   */
  query(logprobs: number | null, banned: readonly number[]): LogitsQuery | null {
    const { temperature, topP, topK, minP, seed } = this.#options;
    if (Math.max(logprobs ?? 0, topK) > mostCandidates) return null;
    const common = { changes: this.#changes(banned), reported: logprobs };
    if (temperature === 0 || topK > 0) {
      const draw = { kind: "ranked", counts: [temperature === 0 ? 1 : topK], suffices: () => true } as const;
      return { ...common, temperature: temperature || 1, draw };
    }
    if (topP === 1 && minP === 0) {
      return { ...common, temperature, draw: { kind: "block", random: randomAt(seed, this.#draws) } };
    }
    const suffices = (known: KnownLogits) => hasNucleus(known, this.#options);
    return { ...common, temperature, draw: { kind: "ranked", counts: nucleusCounts, suffices } };
  }

  /**
   * @param logits [vocab], overwritten; or what `query` asks for
   * @param logprobs null for none, else how many of the most likely tokens to report
   * @param banned tokens that must not be drawn now
   */
  draw(logits: TokenLogits, logprobs: number | null, banned: readonly number[]): Draw {
    const draw =
      logits instanceof Float32Array
        ? this.#drawFromAll(logits, logprobs, banned)
        : this.#drawFromKnown(logits);
    this.#draws++;
    this.#counts.set(draw.tokenId, (this.#counts.get(draw.tokenId) ?? 0) + 1);
    return draw;
  }

  #drawFromKnown(known: KnownLogits): Draw {
    const { tokenIds, logits, unchanged, report } = known;
    const random = randomAt(this.#options.seed, this.#draws);
    const index = this.#options.temperature === 0 ? 0 : drawKnown(known, this.#options, random);
    const tokenId = tokenIds[index]!;
    if (report === null) return { tokenId, logprob: null, top: [] };
    const logit = unchanged.get(tokenId) ?? logits[index]!;
    return { tokenId, logprob: logit - report.logSumExp, top: rankedOf(report) };
  }

  #drawFromAll(logits: Float32Array, logprobs: number | null, banned: readonly number[]): Draw {
    const report = logprobs === null ? null : rankTokens(logits, logprobs);
    for (const change of this.#changes(banned)) {
      logits[change.tokenId] = changedLogit(logits[change.tokenId]!, change);
    }
    const { temperature, seed } = this.#options;
    const tokenId =
      temperature === 0 ? argmax(logits) : drawToken(logits, this.#options, randomAt(seed, this.#draws));
    return { tokenId, logprob: report?.logprobOf(tokenId) ?? null, top: report?.top ?? [] };
  }

  #changes(banned: readonly number[]): LogitChange[] {
    const { logitBias, repetitionPenalty, presencePenalty, frequencyPenalty } = this.#options;
    const changes = new Map<number, { -readonly [Key in keyof LogitChange]: LogitChange[Key] }>();
    const changeOf = (tokenId: number) => {
      let change = changes.get(tokenId);
      if (change === undefined) {
        change = { tokenId, bias: 0, repetition: 1, addend: 0 };
        changes.set(tokenId, change);
      }
      return change;
    };
    for (const [tokenId, bias] of logitBias) changeOf(tokenId).bias += bias;
    if (repetitionPenalty !== 1) {
      for (const tokenId of this.#prompt) changeOf(tokenId).repetition = repetitionPenalty;
      for (const tokenId of this.#counts.keys()) changeOf(tokenId).repetition = repetitionPenalty;
    }
    if (presencePenalty !== 0 || frequencyPenalty !== 0) {
      for (const [tokenId, count] of this.#counts) {
        changeOf(tokenId).addend = -presencePenalty - frequencyPenalty * count;
      }
    }
    for (const tokenId of banned) changeOf(tokenId).addend = Number.NEGATIVE_INFINITY;
    return [...changes.values()];
  }
}

/** The penalty of CTRL, arXiv 1909.05858, section 4.1, in the sign-aware form that transformers and vLLM use. */
export function changedLogit(logit: number, { bias, repetition, addend }: LogitChange): number {
  if (addend === Number.NEGATIVE_INFINITY) return addend;
  const biased = Math.fround(logit + bias);
  return Math.fround(biased > 0 ? biased / repetition : biased * repetition) + addend;
}

/** Reads the report before the logits are modified. */
function rankTokens(logits: Float32Array, count: number) {
  const normaliser = logSumExp(logits);
  const raw = logits.slice();
  const logprobOf = (tokenId: number) => raw[tokenId]! - normaliser;
  return { logprobOf, top: topIndices(raw, count).map((id): RankedToken => [id, logprobOf(id)]) };
}

function rankedOf({ tokenIds, logits, logSumExp }: NonNullable<KnownLogits["report"]>): RankedToken[] {
  return tokenIds.map((id, rank) => [id, logits[rank]! - logSumExp]);
}

/**
 * Log-probabilities of given tokens, as `Draw` reports them: for the tokens of a prompt.
 * @param logits [vocab], or what `scoreQuery` asks for
 */
export function scoreToken(logits: TokenLogits, tokenId: number, count: number): Draw {
  if (!(logits instanceof Float32Array)) {
    const report = logits.report!;
    return { tokenId, logprob: logits.logits[0]! - report.logSumExp, top: rankedOf(report) };
  }
  const report = rankTokens(logits, count);
  return { tokenId, logprob: report.logprobOf(tokenId), top: report.top };
}
