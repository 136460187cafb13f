// Draws one token from one row of logits. The order of the steps is vLLM's: bias, bans, penalties, temperature,
// min_p, top_k, top_p, draw. Everything depends on the request alone, so neighbours in a batch change nothing.

import { argmax, logSumExp, maximum, type RankedToken, topIndices } from "./logprobs.ts";
import { randomAt } from "./random.ts";
import { mostCandidates, type RankedLogits, type TokenLogits } from "./ranked-logits.ts";

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
   * How many of the most likely tokens the next draw needs to know; null where it needs all logits. The draw is the
   * same from either, but for logits so close that their weights are equal.
   */
  candidates(logprobs: number | null, banned: readonly number[]): number | null {
    const { temperature, topK, logitBias, repetitionPenalty, presencePenalty, frequencyPenalty } =
      this.#options;
    const isAdjusted =
      logitBias.length > 0 || repetitionPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0;
    if (isAdjusted || (temperature > 0 && topK === 0)) return null;
    const drawnFrom = temperature === 0 ? 1 : topK;
    const wanted = Math.max(logprobs ?? 0, drawnFrom + banned.length);
    return wanted > mostCandidates ? null : wanted;
  }

  /**
   * @param logits [vocab], overwritten; or as many of the most likely as `candidates` says
   * @param logprobs null for none, else how many of the most likely tokens to report
   * @param banned tokens that must not be drawn now
   */
  draw(logits: TokenLogits, logprobs: number | null, banned: readonly number[]): Draw {
    const draw =
      logits instanceof Float32Array
        ? this.#drawFromAll(logits, logprobs, banned)
        : this.#drawFromRanked(logits, logprobs, banned);
    this.#draws++;
    this.#counts.set(draw.tokenId, (this.#counts.get(draw.tokenId) ?? 0) + 1);
    return draw;
  }

  #drawFromRanked(row: RankedLogits, logprobs: number | null, banned: readonly number[]): Draw {
    const { tokenIds, logits, logSumExp: normaliser } = row;
    const allowed = [...tokenIds.keys()].filter((index) => !banned.includes(tokenIds[index]!));
    const chosen = allowed[this.#choose(Float32Array.from(allowed, (index) => logits[index]!))]!;
    const top = tokenIds.slice(0, logprobs ?? 0);
    return {
      tokenId: tokenIds[chosen]!,
      logprob: logprobs === null ? null : logits[chosen]! - normaliser,
      top: top.map((id, index): RankedToken => [id, logits[index]! - normaliser]),
    };
  }

  #drawFromAll(logits: Float32Array, logprobs: number | null, banned: readonly number[]): Draw {
    const report = logprobs === null ? null : rankTokens(logits, logprobs);
    this.#adjust(logits, banned);
    const tokenId = this.#choose(logits);
    return { tokenId, logprob: report?.logprobOf(tokenId) ?? null, top: report?.top ?? [] };
  }

  /** @returns the index of the drawn one; overwrites */
  #choose(logits: Float32Array): number {
    const { temperature, seed } = this.#options;
    return temperature === 0 ? argmax(logits) : drawToken(logits, this.#options, randomAt(seed, this.#draws));
  }

  #adjust(logits: Float32Array, banned: readonly number[]): void {
    const { logitBias, repetitionPenalty, presencePenalty, frequencyPenalty } = this.#options;
    for (const [tokenId, bias] of logitBias) logits[tokenId] = logits[tokenId]! + bias;
    if (repetitionPenalty !== 1) {
      // CTRL, arXiv 1909.05858, section 4.1, in the sign-aware form that transformers and vLLM use.
      for (const tokenId of new Set([...this.#prompt, ...this.#counts.keys()])) {
        const logit = logits[tokenId]!;
        logits[tokenId] = logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
      }
    }
    if (presencePenalty !== 0 || frequencyPenalty !== 0) {
      for (const [tokenId, count] of this.#counts) {
        logits[tokenId] = logits[tokenId]! - presencePenalty - frequencyPenalty * count;
      }
    }
    for (const tokenId of banned) logits[tokenId] = Number.NEGATIVE_INFINITY;
  }
}

/** Reads the report before the logits are modified. */
function rankTokens(logits: Float32Array, count: number) {
  const normaliser = logSumExp(logits);
  const raw = logits.slice();
  const logprobOf = (tokenId: number) => raw[tokenId]! - normaliser;
  return { logprobOf, top: topIndices(raw, count).map((id): RankedToken => [id, logprobOf(id)]) };
}

/** Log-probabilities of given tokens, as `Draw` reports them: for the tokens of a prompt. */
export function scoreToken(logits: Float32Array, tokenId: number, count: number): Draw {
  const report = rankTokens(logits, count);
  return { tokenId, logprob: report.logprobOf(tokenId), top: report.top };
}

type Filters = Pick<SamplerOptions, "temperature" | "topP" | "topK" | "minP">;

function drawToken(logits: Float32Array, filters: Filters, random: number): number {
  const { temperature, topP, topK, minP } = filters;
  const max = maximum(logits);
  let total = 0;
  for (let i = 0; i < logits.length; i++) {
    const weight = Math.exp((logits[i]! - max) / temperature);
    logits[i] = weight; // relative to the most likely token, which has 1
    total += weight;
  }
  if (topK === 0 && topP === 1 && minP === 0) return pick(logits, total, random);

  const candidates = rankCandidates(logits, filters, total);
  if (topP < 1) {
    // As in vLLM, the nucleus is taken of what min_p and top_k left over.
    const kept = topK > 0 || minP > 0 ? sumOf(candidates, logits) : total;
    candidates.length = nucleusSize(candidates, logits, topP * kept);
  }
  return pickFrom(candidates, logits, random * sumOf(candidates, logits));
}

/** Up to here, inserting into a short list is faster than sorting the vocabulary (60 ms for 150,000 tokens). */
const largestInsertedTopK = 1024;

/** The tokens that min_p and top_k leave over, most likely first. @param weights relative to the largest */
function rankCandidates(weights: Float32Array, { topP, topK, minP }: Filters, total: number): number[] {
  if (topK > 0 && topK <= largestInsertedTopK) {
    return topIndices(weights, topK).filter((token) => weights[token]! >= minP && weights[token]! > 0);
  }
  // No token under this share of the total can be in the nucleus: all of them together weigh less than 1 - topP.
  // Only where the nucleus is of the total, not of what other filters leave over.
  const negligible = topP < 1 && topK === 0 && minP === 0 ? ((1 - topP) / weights.length) * total : 0;
  const candidates: number[] = [];
  for (let token = 0; token < weights.length; token++) {
    const weight = weights[token]!;
    if (weight >= minP && weight >= negligible && weight > 0) candidates.push(token);
  }
  candidates.sort((a, b) => weights[b]! - weights[a]! || a - b);
  if (topK > 0) candidates.length = Math.min(candidates.length, topK);
  return candidates;
}

/** How many of the sorted candidates it takes to reach the weight; at least one. */
function nucleusSize(candidates: readonly number[], weights: Float32Array, wanted: number): number {
  let sum = 0;
  for (const [index, candidate] of candidates.entries()) {
    sum += weights[candidate]!;
    if (sum >= wanted) return index + 1;
  }
  return candidates.length;
}

function sumOf(candidates: readonly number[], weights: Float32Array): number {
  return candidates.reduce((sum, candidate) => sum + weights[candidate]!, 0);
}

function pickFrom(candidates: readonly number[], weights: Float32Array, point: number): number {
  let sum = 0;
  for (const candidate of candidates) {
    sum += weights[candidate]!;
    if (point < sum) return candidate;
  }
  return candidates.at(-1)!;
}

function pick(weights: Float32Array, total: number, random: number): number {
  const point = random * total;
  let sum = 0;
  let last = 0;
  for (let i = 0; i < weights.length; i++) {
    if (weights[i]! === 0) continue;
    last = i;
    sum += weights[i]!;
    if (point < sum) return i;
  }
  return last;
}
