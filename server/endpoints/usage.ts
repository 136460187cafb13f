// Token counts of an answer, in OpenAI's shape, while it is being generated and at its end.

import { z } from "@hono/zod-openapi";
import type { Generation } from "../generation/generation.ts";
import type { SamplingFields } from "../generation/sampling-fields.ts";

export const usageSchema = z
  .object({
    prompt_tokens: z.int(),
    completion_tokens: z.int(),
    total_tokens: z.int(),
    prompt_tokens_details: z.object({ cached_tokens: z.int() }),
  })
  .openapi("Usage");

export type Usage = z.output<typeof usageSchema>;

export function usageOf(generation: Pick<Generation, "promptTokens" | "completionTokens">): Usage {
  const { promptTokens, completionTokens } = generation;
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens.total,
    total_tokens: promptTokens + completionTokens.total,
    prompt_tokens_details: { cached_tokens: completionTokens.cachedPrompt.total },
  };
}

/** What a stream's chunks say of usage, by OpenAI's include_usage and vLLM's continuous_usage_stats. */
export class StreamUsage {
  readonly #options: SamplingFields["stream_options"];
  readonly #tokens: Pick<Generation, "promptTokens" | "completionTokens">;

  constructor(
    options: SamplingFields["stream_options"],
    tokens: Pick<Generation, "promptTokens" | "completionTokens">,
  ) {
    this.#options = options;
    this.#tokens = tokens;
  }

  /** For a chunk with choices. */
  field(): { readonly usage?: Usage | null } {
    if (!this.#options?.include_usage) return {};
    return { usage: this.#options.continuous_usage_stats ? this.#now() : null };
  }

  /** For the chunk without choices at the end; null when nobody asked for it. */
  final(): Usage | null {
    return this.#options?.include_usage ? this.#now() : null;
  }

  #now(): Usage {
    return usageOf(this.#tokens);
  }
}
