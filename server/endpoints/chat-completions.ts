// POST /v1/chat/completions: a conversation through the model's chat template, on the base or an adapter.

import type { ServerContext } from "../context.ts";
import { eventStream } from "../event-stream.ts";
import { type Generation, prepareGeneration } from "../generation/generation.ts";
import { keepChoices } from "../generation/kept-choice.ts";
import type { WithLazyLists } from "../json-parts.ts";
import { wholeAnswer } from "../whole-answer.ts";
import { ChatChoiceWriter } from "./chat-choice.ts";
import {
  type ChatAnswer,
  type ChatChunk,
  type ChatRequest,
  chatAnswer,
  chatChunk,
  chatRequest,
} from "./chat-completions-contract.ts";
import { conversationTokenIds } from "./conversation.ts";
import { jsonEndpoint } from "./endpoint.ts";
import { StreamUsage, usageOf } from "./usage.ts";

export const chatCompletions = jsonEndpoint({
  method: "post",
  path: "/v1/chat/completions",
  access: "inference",
  listener: "main",
  summary: "Answer a conversation",
  jsonBody: chatRequest,
  responses: {
    200: {
      description: "The answer, or with stream its chunks as server-sent events.",
      content: { "application/json": { schema: chatAnswer }, "text/event-stream": { schema: chatChunk } },
    },
  },
  async handle({ body, bodyDone, signal, record, tenant }, context) {
    const { engine, text } = context.readiness.serving;
    const sender = { tenantId: tenant.id, signal, maxTokens: engine.model.maxContext };
    const tokenIds = await conversationTokenIds(body, text, { sender });
    Object.assign(body, { messages: [], chat_template_kwargs: null }); // nobody needs them any more
    bodyDone();
    const generation = prepareGeneration(
      {
        idPrefix: "chatcmpl-",
        fields: body,
        prompts: [tokenIds],
        promptParam: () => "messages",
        maxTokens: body.max_completion_tokens ?? body.max_tokens ?? null,
        defaultMaxTokens: (roomTokens) => roomTokens,
        logprobs: body.logprobs ? (body.top_logprobs ?? 0) : null,
        promptLogprobs: null,
      },
      { signal, record, tenant },
      context,
    );
    const writers = choiceWriters(body, generation, context);
    if (!body.stream) return wholeAnswer(() => whole(generation, writers), { ...generation, record });
    const events = chunks(body, generation, writers);
    return eventStream({ ...generation, events, record, logger: context.logger });
  },
});

function choiceWriters(body: ChatRequest, { plans }: Generation, context: ServerContext): ChatChoiceWriter[] {
  const { text } = context.readiness.serving;
  const options = {
    asTokenIds: body.return_tokens_as_token_ids ?? false,
    withTokenIds: body.return_token_ids ?? false,
    everyToken: body.stream_options?.continuous_usage_stats ?? false,
  };
  return plans.map((_, index) => new ChatChoiceWriter({ ...options, index }, text));
}

async function whole(
  generation: Generation,
  writers: readonly ChatChoiceWriter[],
): Promise<WithLazyLists<ChatAnswer>> {
  const kept = await keepChoices(generation, writers[0]!.options);
  return {
    ...generation.head,
    object: "chat.completion",
    choices: writers.map((writer, index) => writer.whole(kept[index]!)),
    usage: usageOf(generation),
  };
}

async function* chunks(
  body: ChatRequest,
  generation: Generation,
  writers: readonly ChatChoiceWriter[],
): AsyncGenerator<ChatChunk> {
  const usage = new StreamUsage(body.stream_options, generation);
  const head = { ...generation.head, object: "chat.completion.chunk" as const };
  let isOpen = false;
  for await (const [index, piece] of generation.pieces) {
    // Only once the engine has accepted the request: until then a refusal still has its own status.
    if (!isOpen)
      for (const writer of writers) yield { ...head, choices: [writer.opening()], ...usage.field() };
    isOpen = true;
    const delta = writers[index]!.write(piece);
    if (delta) yield { ...head, choices: [delta], ...usage.field() };
  }
  const final = usage.final();
  if (final) yield { ...head, choices: [], usage: final };
}
