// POST /v1/completions: prompts in any of the four forms, generated on the base or an adapter.

import { setImmediate as nextTurn } from "node:timers/promises";
import { UnsupportedFieldError } from "../errors.ts";
import { eventStream } from "../event-stream.ts";
import { type Generation, prepareGeneration } from "../generation/generation.ts";
import { keepChoices } from "../generation/kept-choice.ts";
import type { WithLazyLists } from "../json-parts.ts";
import type { Sender, TextModel } from "../text/text-model.ts";
import { wholeAnswer } from "../whole-answer.ts";
import { CompletionChoiceWriter } from "./completion-choice.ts";
import {
  type CompletionAnswer,
  type CompletionRequest,
  completionAnswer,
  completionRequest,
} from "./completions-contract.ts";
import { jsonEndpoint, jsonResponse } from "./endpoint.ts";
import { PromptEcho, promptTokenIds } from "./prompt.ts";
import { StreamUsage, usageOf } from "./usage.ts";

const defaultMaxTokens = 16; // OpenAI's

export const completions = jsonEndpoint({
  method: "post",
  path: "/v1/completions",
  access: "inference",
  listener: "main",
  summary: "Continue a text or token ids",
  jsonBody: completionRequest,
  responses: {
    200: jsonResponse("The choices; with stream, the same in server-sent events.", completionAnswer),
  },
  async handle({ body, bodyDone, signal, record, tenant }, context) {
    if (body.best_of && body.best_of !== (body.n ?? 1)) {
      throw new UnsupportedFieldError("best_of", "ask for n and choose among them");
    }
    const { engine, text } = context.readiness.serving;
    const { isList } = body.prompt;
    const sender = { tenantId: tenant.id, signal, maxTokens: engine.model.maxContext };
    const prompts = await encodeInTurns(body, text, sender);
    body.prompt = { prompts: [], isList }; // nobody needs it any more
    bodyDone();
    const generation = prepareGeneration(
      {
        idPrefix: "cmpl-",
        fields: body,
        prompts: prompts.map(({ tokenIds }) => tokenIds),
        promptParam: (index) => (isList ? `prompt[${index}]` : "prompt"),
        maxTokens: body.max_tokens ?? null,
        defaultMaxTokens: (roomTokens) => Math.min(defaultMaxTokens, roomTokens),
        logprobs: body.logprobs ?? null,
        promptLogprobs: body.echo ? (body.logprobs ?? null) : null,
      },
      { signal, record, tenant },
      context,
    );
    const echoes = prompts.map(({ echo }) => echo);
    const writers = choiceWriters(body, { ...generation, echoes }, text);
    if (!body.stream) return wholeAnswer(() => whole(generation, writers), { ...generation, record });
    const events = chunks(body, generation, writers);
    return eventStream({ ...generation, events, record, logger: context.logger });
  },
});

type EncodedPrompt = { readonly tokenIds: readonly number[]; readonly echo: PromptEcho | null };

/** One prompt after the other with a turn of the event loop between: a long list must not hold up the streams. */
async function encodeInTurns({ prompt, echo }: CompletionRequest, text: TextModel, sender: Sender) {
  const encoded: EncodedPrompt[] = [];
  for (const one of prompt.prompts) {
    const tokenIds = await promptTokenIds(one, text, sender);
    encoded.push({ tokenIds, echo: echo ? new PromptEcho(one, text) : null });
    await nextTurn();
  }
  return encoded;
}

type WrittenChoices = Pick<Generation, "plans"> & { readonly echoes: readonly (PromptEcho | null)[] }; // by prompt

function choiceWriters(body: CompletionRequest, { plans, echoes }: WrittenChoices, text: TextModel) {
  const choicesPerPrompt = body.n ?? 1;
  return plans.map((plan, index) => {
    const options = {
      index,
      plan,
      echo: echoes[Math.floor(index / choicesPerPrompt)]!,
      asTokenIds: body.return_tokens_as_token_ids ?? false,
      withTokenIds: body.return_token_ids ?? !text.hasTokenizer,
      everyToken: body.stream_options?.continuous_usage_stats ?? false,
    };
    return new CompletionChoiceWriter(options, text);
  });
}

async function whole(
  generation: Generation,
  writers: readonly CompletionChoiceWriter[],
): Promise<WithLazyLists<CompletionAnswer>> {
  const kept = await keepChoices(generation, writers[0]!.options);
  for (const writer of writers) await writer.prepare();
  return {
    ...generation.head,
    object: "text_completion",
    choices: writers.map((writer, index) => writer.whole(kept[index]!)),
    usage: usageOf(generation),
  };
}

async function* chunks(
  body: CompletionRequest,
  generation: Generation,
  writers: readonly CompletionChoiceWriter[],
): AsyncGenerator<CompletionAnswer> {
  const usage = new StreamUsage(body.stream_options, generation);
  const head = { ...generation.head, object: "text_completion" as const };
  for await (const [index, piece] of generation.pieces) {
    const writer = writers[index]!;
    await writer.prepare();
    const chunk = writer.write(piece);
    if (chunk) yield { ...head, choices: [chunk], ...usage.field() };
  }
  const final = usage.final();
  if (final) yield { ...head, choices: [], usage: final };
}
