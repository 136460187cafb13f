// How far apart two adapter versions are on some prompts, measured by the engine among its other requests.

import { greedySampling } from "../kernels/sampling/sampler.ts";
import type { Engine } from "./engine.ts";
import type { Comparison, GenerationRequest, RequestTenant } from "./protocol.ts";

export type ComparedVersions = {
  readonly id: string; // unique on this server
  readonly tenant: RequestTenant; // on whose account it runs
  readonly a: string | null; // null = the base alone
  readonly b: string | null;
  readonly prompts: readonly (readonly number[])[]; // token ids, at least one each
};

/** Both versions must stay loaded until it resolves. Throws what `generate` throws. */
export async function compareVersions(
  engine: Pick<Engine, "generate">,
  versions: ComparedVersions,
  signal?: AbortSignal,
): Promise<Comparison> {
  const parts: Comparison[] = [];
  for (const [index, promptTokenIds] of versions.prompts.entries()) {
    const request = requestOf(versions, `${versions.id}-${index}`, promptTokenIds);
    for await (const event of engine.generate(request, signal)) {
      if (event.type === "compared") parts.push(event.comparison);
    }
  }
  const tokens = parts.reduce((sum, part) => sum + part.tokens, 0);
  const mean = (value: (part: Comparison) => number) =>
    parts.reduce((sum, part) => sum + value(part) * part.tokens, 0) / Math.max(1, tokens);
  return {
    meanKl: mean(({ meanKl }) => meanKl),
    maxKl: parts.reduce((max, part) => Math.max(max, part.maxKl), 0),
    top1Agreement: mean(({ top1Agreement }) => top1Agreement),
    tokens,
  };
}

function requestOf(
  { tenant, a, b }: ComparedVersions,
  id: string,
  promptTokenIds: readonly number[],
): GenerationRequest {
  return {
    id,
    tenant,
    priority: 0,
    timeoutMs: null,
    promptTokenIds,
    adapterVersion: a ?? b,
    blend: {
      type: "compare",
      members: [a, b].map((adapterVersion) => ({ adapterVersion, weight: 1 })),
    },
    sampling: greedySampling,
    maxTokens: 0,
    minTokens: 0,
    stopTokenIds: [],
    ignoreEos: true,
    logprobs: null,
    promptLogprobs: null,
  };
}
