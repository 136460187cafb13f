// What the server serves, in OpenAI's list with vLLM's fields: the base, its adapters, the context's length.

import type { HttpClient } from "./http-client.ts";
import type { LoadOptions } from "./options.ts";
import { calibrationWords, promptText } from "./prompt-text.ts";
import { type Endpoint, endpointPaths, promptFields } from "./send-request.ts";

export type ServedModels = {
  readonly base: string;
  readonly adapters: readonly string[];
  readonly contextTokens: number;
};

type ModelCard = { readonly id: string; readonly parent?: string | null; readonly max_model_len?: number };

/** vLLM's default context where neither the list nor --context says; a note tells of it. */
const assumedContextTokens = 2048;

export async function findModels(
  client: HttpClient,
  { base, adapters, contextTokens, tenants }: LoadOptions,
  note: (text: string) => void,
): Promise<ServedModels> {
  const list = await client.json({ method: "GET", path: "/v1/models", key: tenants[0]!.key });
  const { data } = list as { data: readonly ModelCard[] };
  const card = base === null ? data.find(({ parent }) => !parent) : data.find(({ id }) => id === base);
  const name = base ?? card?.id;
  if (name === undefined) throw new Error("GET /v1/models lists no base model; name it with --base");
  const context = contextTokens ?? card?.max_model_len;
  if (context === undefined)
    note(`no max_model_len in GET /v1/models: assuming ${assumedContextTokens}; see --context`);
  return {
    base: name,
    adapters: adapters ?? data.filter(({ parent }) => parent).map(({ id }) => id),
    contextTokens: context ?? assumedContextTokens,
  };
}

/** Tokens per word of the prompts of this generator, by the server's own count. */
export async function calibrate(
  client: HttpClient,
  { base }: Pick<ServedModels, "base">,
  { key, endpoint }: { readonly key: string | null; readonly endpoint: Endpoint },
): Promise<number> {
  const path = endpointPaths[endpoint];
  const tokensOf = async (words: number) => {
    const body = { model: base, ...promptFields(promptText(words, 1, 0), endpoint), max_tokens: 1 };
    const answer = await client.json({ method: "POST", path, key, body });
    const { usage } = answer as { usage?: { prompt_tokens?: number } };
    if (!usage?.prompt_tokens) throw new Error(`POST ${path} answers without usage.prompt_tokens`);
    return usage.prompt_tokens;
  };
  const all = await tokensOf(calibrationWords);
  if (endpoint === "completions") return all / calibrationWords;
  const half = calibrationWords / 2; // a chat template adds tokens of its own to either
  return (all - (await tokensOf(half))) / half;
}
