// From a request's fields and prompts to what the engine is asked for, one plan per choice. Checks what only the
// served model can tell: vocabulary and context. Knows no HTTP.

import { randomInt } from "node:crypto";
import type { Blend, ServedModel } from "../../scheduler/protocol.ts";
import { ContextLengthError, InvalidFieldError } from "../errors.ts";
import type { ServedAdapter } from "../served-adapters.ts";
import { InsufficientRoleError } from "../tenancy/errors.ts";
import { roleCovers, type Tenant } from "../tenancy/tenant.ts";
import type { TextModel } from "../text/text-model.ts";
import type { ChoicePlan } from "./choice.ts";
import type { SamplingFields } from "./sampling-fields.ts";

export type PlanInput = {
  readonly id: string; // unique on this server; the engine's ids derive from it
  readonly tenant: Tenant;
  readonly fields: Omit<SamplingFields, "model">;
  readonly prompts: readonly (readonly number[])[]; // token ids
  readonly promptParam: (index: number) => string; // what a complaint about a prompt names
  readonly adapter: Pick<ServedAdapter, "version"> | null;
  readonly blend: Blend | null;
  readonly maxTokens: number | null; // null = defaultMaxTokens
  readonly defaultMaxTokens: (roomTokens: number) => number;
  readonly logprobs: number | null;
  readonly promptLogprobs: number | null;
};

export type PlanTarget = { readonly model: ServedModel; readonly text: TextModel };

const maximumChoices = 2048;

/** Choices in OpenAI's order: all of the first prompt, then all of the second. */
export function planChoices(input: PlanInput, target: PlanTarget): ChoicePlan[] {
  const { fields, prompts } = input;
  const perPrompt = fields.n ?? 1;
  const mostChoices = Math.min(maximumChoices, target.model.maxQueue); // others could never all be accepted
  if (prompts.length * perPrompt > mostChoices) {
    throw new InvalidFieldError(
      "n",
      `${prompts.length} prompts with n ${perPrompt} are more than ${mostChoices} choices; send several requests`,
    );
  }
  const priority = fields.priority ?? 0;
  if (priority < 0 && !roleCovers(input.tenant.role, "admin")) throw new InsufficientRoleError("admin");
  const { vocabSize } = target.model;
  const stops = stopStrings(fields.stop, target.text);
  const stopTokenIds = fields.stop_token_ids ?? [];
  checkTokenIds(stopTokenIds, vocabSize, "stop_token_ids");
  const logitBias = readLogitBias(fields.logit_bias, vocabSize);
  const { id: tenantId, weight, quotas } = input.tenant;
  const tenant = { id: tenantId, weight, rowsAtOnce: quotas.rowsAtOnce };
  const seed = fields.seed === null || fields.seed === undefined ? randomInt(2 ** 32) : foldSeed(fields.seed);
  return prompts.flatMap((promptTokenIds, promptIndex) => {
    checkTokenIds(promptTokenIds, vocabSize, input.promptParam(promptIndex));
    const maxTokens = checkLength(promptTokenIds.length, input, target.model.maxContext);
    return Array.from({ length: perPrompt }, (_, choice) => ({
      request: {
        id: `${input.id}-${promptIndex * perPrompt + choice}`,
        tenant,
        priority,
        timeoutMs: fields.timeout_ms ?? null,
        promptTokenIds,
        adapterVersion: input.adapter?.version ?? null,
        blend: input.blend,
        sampling: { ...samplingOf(fields), logitBias, seed: (seed + choice) >>> 0 },
        maxTokens,
        minTokens: fields.min_tokens ?? 0,
        stopTokenIds,
        ignoreEos: fields.ignore_eos ?? false,
        logprobs: input.logprobs,
        promptLogprobs: input.promptLogprobs,
      },
      stops,
      includeStop: fields.include_stop_str_in_output ?? false,
      skipSpecialTokens: fields.skip_special_tokens ?? true,
    }));
  });
}

function samplingOf(fields: PlanInput["fields"]) {
  const topK = fields.top_k ?? 0;
  return {
    temperature: fields.temperature ?? 1,
    topP: fields.top_p ?? 1,
    topK: topK === -1 ? 0 : topK, // vLLM's two spellings of "off"
    minP: fields.min_p ?? 0,
    repetitionPenalty: fields.repetition_penalty ?? 1,
    presencePenalty: fields.presence_penalty ?? 0,
    frequencyPenalty: fields.frequency_penalty ?? 0,
  };
}

function stopStrings(stop: SamplingFields["stop"], text: TextModel): readonly string[] {
  const stops = typeof stop === "string" ? [stop] : (stop ?? []);
  if (stops.length > 0) text.tokenizer; // refuses where there is no text to search
  return stops;
}

function readLogitBias(bias: SamplingFields["logit_bias"], vocabSize: number): (readonly [number, number])[] {
  return Object.entries(bias ?? {}).map(([key, value]) => {
    const tokenId = Number(key);
    checkTokenIds([tokenId], vocabSize, "logit_bias");
    return [tokenId, value] as const;
  });
}

function checkTokenIds(tokenIds: readonly number[], vocabSize: number, param: string): void {
  const outside = tokenIds.find((id) => id >= vocabSize);
  if (outside === undefined) return;
  throw new InvalidFieldError(param, `token id ${outside} is outside the vocabulary of ${vocabSize} tokens`);
}

function checkLength(promptTokens: number, input: PlanInput, maximum: number): number {
  if (promptTokens === 0) throw new InvalidFieldError("prompt", "has no tokens; send at least one");
  const room = maximum - promptTokens;
  const completion = input.maxTokens ?? Math.max(1, input.defaultMaxTokens(room));
  if (completion > room) throw new ContextLengthError({ maximum, prompt: promptTokens, completion });
  const minimum = input.fields.min_tokens ?? 0;
  if (minimum > completion) {
    throw new InvalidFieldError(
      "min_tokens",
      `${minimum} is more than the ${completion} tokens that max_tokens allows`,
    );
  }
  return completion;
}

/** OpenAI's seeds are 64-bit, the engine's 32: both halves count, and seeds below 2^32 stay as they are. */
function foldSeed(seed: number): number {
  const wide = BigInt.asUintN(64, BigInt(seed));
  return Number(BigInt.asUintN(32, wide ^ (wide >> 32n)));
}
