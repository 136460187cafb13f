// Why the engine cannot run a request at all. The HTTP side checks first, with better words; here nothing that would
// break a step gets in.

import type { ModelRunner } from "../kernels/model-runner.ts";
import type { GenerationRequest } from "./protocol.ts";

export type Refusal = {
  readonly code: string;
  readonly message: string;
  readonly retryAfterMs: number | null; // null where waiting does not help
};

export type CheckContext = {
  readonly runner: ModelRunner;
  readonly vocabSize: number;
  readonly isKnown: (adapterVersion: string) => boolean;
};

export function checkRequest(request: GenerationRequest, context: CheckContext): Refusal | null {
  const { runner, vocabSize } = context;
  const { promptTokenIds, maxTokens, adapterVersion, tenant } = request;
  if (adapterVersion !== null && !context.isKnown(adapterVersion)) {
    return refusal("adapter_not_found", `adapter version ${adapterVersion} is not loaded; send it again`);
  }
  const virtualTokens = runner.virtualTokens(adapterVersion);
  if (promptTokenIds.length === 0 || virtualTokens + promptTokenIds.length + maxTokens > runner.maxContext) {
    const virtual = virtualTokens === 0 ? "" : `${virtualTokens} virtual tokens of the adapter, `;
    return refusal(
      "context_length_exceeded",
      `${virtual}${promptTokenIds.length} prompt and ${maxTokens} completion tokens do not fit a context of ${runner.maxContext}; shorten the prompt or lower max_tokens`,
    );
  }
  if (promptTokenIds.some((token) => !Number.isInteger(token) || token < 0 || token >= vocabSize)) {
    return refusal("invalid_token_id", `token ids must be whole numbers from 0 to ${vocabSize - 1}`);
  }
  if (!(tenant.weight > 0) || (tenant.rowsAtOnce !== null && !(tenant.rowsAtOnce >= 1))) {
    return refusal(
      "invalid_tenant",
      "a tenant needs a weight above 0 and at least one row; correct its entry",
    );
  }
  return null;
}

function refusal(code: string, message: string): Refusal {
  return { code, message, retryAfterMs: null };
}
