// A request with everything off, for tests to change.

import type { GenerationRequest, SamplingParameters } from "./protocol.ts";

export const greedySampling: SamplingParameters = {
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: [],
  seed: 1,
};

export function requestOf(changes: Partial<GenerationRequest> = {}): GenerationRequest {
  return {
    id: "request",
    promptTokenIds: [5, 6, 7],
    adapterVersion: null,
    sampling: greedySampling,
    maxTokens: 4,
    minTokens: 0,
    stopTokenIds: [],
    ignoreEos: true,
    logprobs: null,
    promptLogprobs: null,
    ...changes,
  };
}
