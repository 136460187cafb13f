// One HTTP request's generation: its identity, its plans, and the stream of pieces, with what aborts it.
// Knows no answer shapes.

import { randomUUID } from "node:crypto";
import type { ServerContext } from "../context.ts";
import { resolveModel } from "../model-name.ts";
import type { RequestRecord } from "../request-record.ts";
import type { ChoicePiece, ChoicePlan } from "./choice.ts";
import { type PlanInput, planChoices } from "./plan-choices.ts";
import { runChoices } from "./run-choices.ts";
import type { SamplingFields } from "./sampling-fields.ts";
import { TokenCount } from "./token-count.ts";

export type GenerationInput = Omit<PlanInput, "id" | "adapter" | "fields"> & {
  readonly idPrefix: string;
  readonly fields: SamplingFields;
};

export type Generation = {
  readonly head: AnswerHead;
  readonly plans: readonly ChoicePlan[];
  readonly promptTokens: number; // a prompt that n choices share counts once
  readonly pieces: AsyncGenerator<readonly [index: number, piece: ChoicePiece]>;
  readonly withLogprobs: boolean;
  readonly signal: AbortSignal;
  readonly abort: () => void;
  readonly completionTokens: { readonly total: number }; // grows as `pieces` is read
};

/** The fields that every answer and every chunk starts with. */
export type AnswerHead = {
  readonly id: string;
  readonly created: number;
  readonly model: string;
  readonly system_fingerprint: string;
};

/** Throws what planChoices and resolveModel throw; the engine hears of nothing until `pieces` is read. */
export function prepareGeneration(
  input: GenerationInput,
  request: { readonly signal: AbortSignal; readonly record: RequestRecord },
  context: ServerContext,
): Generation {
  const { engine, text, adapters } = context.readiness.serving;
  const { fields, prompts } = input;
  const resolved = resolveModel(
    { model: fields.model, adapterId: fields.adapter_id ?? null },
    { baseName: context.baseName, adapter: (id) => adapters.get(id) },
  );
  const { record } = request;
  const id = randomUUID();
  const plans = planChoices({ ...input, id, adapter: resolved.adapter }, { model: engine.model, text });
  const promptTokens = prompts.reduce((sum, prompt) => sum + prompt.length, 0);
  record.model = resolved.name;
  record.promptTokens = promptTokens;
  const completionTokens = new TokenCount();
  record.completionTokens = completionTokens;
  const leaving = new AbortController();
  const signal = AbortSignal.any([request.signal, leaving.signal]);
  return {
    head: {
      id: `${input.idPrefix}${id}`,
      created: Math.floor(Date.now() / 1000),
      model: resolved.name,
      system_fingerprint: `fp_${engine.model.fingerprint.slice(0, 12)}_${engine.model.quantization}`,
    },
    plans,
    promptTokens,
    pieces: completionTokens.watch(runChoices(plans, { engine, text, signal, metrics: context.metrics })),
    withLogprobs: input.logprobs !== null,
    signal,
    abort: () => leaving.abort(),
    completionTokens,
  };
}
