// One HTTP request's generation: its identity, its plans, and the stream of pieces, with what aborts it.
// Knows no answer shapes.

import { randomUUID } from "node:crypto";
import type { ServerContext } from "../context.ts";
import { linkedController } from "../linked-controller.ts";
import type { RequestRecord } from "../request-record.ts";
import { sharerOf, type Tenant } from "../tenancy/tenant.ts";
import { charged } from "../usage/charged.ts";
import { TokenQuota } from "../usage/token-quota.ts";
import { AnswerMemory } from "./answer-budget.ts";
import type { ChoicePiece, ChoicePlan } from "./choice.ts";
import { leasedEngine } from "./leased-engine.ts";
import { type PlanInput, planChoices } from "./plan-choices.ts";
import { runChoices } from "./run-choices.ts";
import type { SamplingFields } from "./sampling-fields.ts";
import { TokenCount } from "./token-count.ts";

export type GenerationInput = Omit<PlanInput, "blend" | "id" | "tenant" | "adapter" | "fields"> & {
  readonly idPrefix: string;
  readonly fields: SamplingFields;
};

export type Generation = {
  readonly head: AnswerHead;
  readonly plans: readonly ChoicePlan[];
  readonly promptTokens: number; // a prompt that n choices share counts once
  readonly pieces: AsyncGenerator<readonly [index: number, piece: ChoicePiece]>;
  readonly memory: AnswerMemory; // taken when `pieces` begin; of what is no stream to be disposed of when it is sent
  readonly signal: AbortSignal;
  readonly abort: () => void;
  readonly completionTokens: Pick<TokenCount, "total" | "cachedPrompt">; // grow as `pieces` is read
};

/** The fields that every answer and every chunk starts with. */
export type AnswerHead = {
  readonly id: string;
  readonly created: number;
  readonly model: string;
  readonly system_fingerprint: string;
};

/** Throws AnswerTooLargeError and what planChoices and Compositions.resolve throw; the engine hears of nothing until `pieces` is read. */
export function prepareGeneration(
  input: GenerationInput,
  request: { readonly signal: AbortSignal; readonly record: RequestRecord; readonly tenant: Tenant },
  context: ServerContext,
): Generation {
  const { engine, text, adaptersOf, compositions, usage } = context.readiness.serving;
  const { fields, prompts } = input;
  const { record, tenant } = request;
  const adapters = adaptersOf(tenant);
  const resolved = compositions.resolve(
    {
      model: fields.model,
      adapterId: fields.adapter_id ?? null,
      adapters: fields.adapters ?? null,
      mode: fields.mode ?? null,
      owner: sharerOf(tenant),
    },
    { baseName: context.baseName, adapter: (id) => adapters.get(id) },
  );
  const id = randomUUID();
  const plans = planChoices(
    { ...input, id, tenant, adapter: resolved.adapter, blend: resolved.blend },
    { model: engine.model, text },
  );
  const isStream = fields.stream ?? false;
  const memory = new AnswerMemory(plans, { allowance: context.answers, owner: tenant.id, isStream });
  const promptTokens = prompts.reduce((sum, prompt) => sum + prompt.length, 0);
  record.model = resolved.name;
  record.promptTokens = promptTokens;
  const completionTokens = new TokenCount(fields.n ?? 1);
  record.completionTokens = completionTokens;
  const answerId = `${input.idPrefix}${id}`;
  const leaving = linkedController(request.signal);
  const cancelling = linkedController(leaving.signal);
  const quota = new TokenQuota({
    choices: plans.length,
    mostTokens: plans.reduce((sum, { request: { maxTokens } }) => sum + maxTokens, 0),
    isOpenEnded: input.maxTokens === null,
  });
  const pieces = runChoices(plans, {
    engine: leasedEngine(engine, adapters, record.arrivedMs),
    text,
    signal: cancelling.signal,
    quota,
    metrics: context.metrics,
    onUnread: isStream ? (pieces) => memory.holdUnread(pieces) : () => {}, // others are taken as they come
  });
  const charge = {
    tenant,
    model: resolved.name,
    adapterVersion: resolved.usageVersion,
    promptTokens,
    quota,
    completionTokens,
    cachedPromptTokens: completionTokens.cachedPrompt,
    signal: cancelling.signal,
  };
  const generated = charged(completionTokens.watch(pieces), charge, { limits: context.limits, usage });
  return {
    head: {
      id: answerId,
      created: Math.floor(Date.now() / 1000),
      model: resolved.name,
      system_fingerprint: `fp_${engine.model.fingerprint.slice(0, 12)}_${engine.model.quantization}`,
    },
    plans,
    promptTokens,
    pieces: context.requests.track(remembered(generated, memory, isStream), {
      id: answerId,
      headerId: record.id,
      tenantId: tenant.id,
      cancelling,
    }),
    memory,
    signal: leaving.signal,
    abort: () => leaving.abort(),
    completionTokens,
  };
}

/** Throws AnswersTooManyError before anything is generated. */
async function* remembered<Piece>(
  pieces: AsyncIterable<Piece>,
  memory: AnswerMemory,
  isStream: boolean,
): AsyncGenerator<Piece> {
  memory.begin();
  try {
    yield* pieces;
  } finally {
    if (isStream) memory[Symbol.dispose]();
  }
}
