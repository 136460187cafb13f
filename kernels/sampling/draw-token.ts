// Draws a token by temperature, min_p, top_k and top_p, from a whole row of logits or from what a device told of it.

import { expOfNegative } from "./exponential.ts";
import type { KnownLogits } from "./logits-query.ts";
import { maximum, topIndices } from "./logprobs.ts";
import type { SamplerOptions } from "./sampler.ts";

export type Filters = Pick<SamplerOptions, "temperature" | "topP" | "topK" | "minP">;

/** Of the most likely tokens, where it shows only then how many it takes. */
export const nucleusCounts = [64, 512];

function knownWeights({ logits, largest }: KnownLogits, temperature: number): Float32Array {
  return logits.map((logit) => expOfNegative((logit - largest) / temperature));
}

/** Whether all tokens that min_p and top_p leave over are among the known ones, which are the most likely. */
export function hasNucleus(known: KnownLogits, { temperature, topP, minP }: Filters): boolean {
  const weights = knownWeights(known, temperature);
  if (minP > 0) return weights.at(-1)! < minP;
  return weights.reduce((sum, weight) => sum + weight, 0) >= topP * known.total;
}

/** @returns the index of the drawn token */
export function drawKnown(known: KnownLogits, filters: Filters, random: number): number {
  const weights = knownWeights(known, filters.temperature);
  const { topP, topK, minP } = filters;
  if (topK === 0 && topP === 1 && minP === 0) return pick(weights, random * known.total - known.before);
  const candidates = [...weights.keys()].filter((index) => weights[index]! > 0 && weights[index]! >= minP);
  if (topK > 0) candidates.length = Math.min(candidates.length, topK);
  return drawCandidate(candidates, weights, { filters, total: known.total, random });
}

/** @returns the drawn token; overwrites */
export function drawToken(logits: Float32Array, filters: Filters, random: number): number {
  const { temperature, topP, topK, minP } = filters;
  const max = maximum(logits);
  let total = 0;
  for (let i = 0; i < logits.length; i++) {
    const weight = expOfNegative((logits[i]! - max) / temperature);
    logits[i] = weight; // relative to the most likely token, which has 1
    total += weight;
  }
  if (topK === 0 && topP === 1 && minP === 0) return pick(logits, random * total);
  return drawCandidate(rankCandidates(logits, filters, total), logits, { filters, total, random });
}

type CandidateDraw = { readonly filters: Filters; readonly total: number; readonly random: number };

/** @param candidates that min_p and top_k leave over, most likely first; shortened */
function drawCandidate(
  candidates: number[],
  weights: Float32Array,
  { filters: { topP, topK, minP }, total, random }: CandidateDraw,
): number {
  if (topP < 1) {
    // As in vLLM, the nucleus is taken of what min_p and top_k left over.
    const kept = topK > 0 || minP > 0 ? sumOf(candidates, weights) : total;
    candidates.length = nucleusSize(candidates, weights, topP * kept);
  }
  return pickFrom(candidates, weights, random * sumOf(candidates, weights));
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

/** The first of which the weights up to it pass the point. */
function pick(weights: Float32Array, point: number): number {
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
