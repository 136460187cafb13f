// A request with everything off, for tests to change.

import { greedySampling } from "../kernels/sampling/sampler.ts";
import type { GenerationRequest } from "./protocol.ts";

export function requestOf(changes: Partial<GenerationRequest> = {}): GenerationRequest {
  return {
    id: "request",
    tenant: { id: "tenant", weight: 1, rowsAtOnce: null },
    priority: 0,
    timeoutMs: null,
    promptTokenIds: [5, 6, 7],
    adapterVersion: null,
    blend: null,
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
