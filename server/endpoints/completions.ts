// POST /v1/completions: prompts in any of the four forms, generated on the base or an adapter.

import type { ServerContext } from "../context.ts";
import { UnsupportedFieldError } from "../errors.ts";
import { eventStream } from "../event-stream.ts";
import { collectParts } from "../generation/collect-parts.ts";
import { type Generation, prepareGeneration } from "../generation/generation.ts";
import type { TextModel } from "../text/text-model.ts";
import { CompletionChoiceWriter, joinCompletionChunks } from "./completion-choice.ts";
import {
  type CompletionAnswer,
  type CompletionRequest,
  completionAnswer,
  completionRequest,
} from "./completions-contract.ts";
import { jsonEndpoint, jsonResponse } from "./endpoint.ts";
import { promptText, promptTokenIds } from "./prompt.ts";
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
  async handle({ body, signal, record, tenant }, context) {
    if (body.best_of && body.best_of !== (body.n ?? 1)) {
      throw new UnsupportedFieldError("best_of", "ask for n and choose among them");
    }
    const { text } = context.readiness.serving;
    const { prompts, isList } = body.prompt;
    const generation = prepareGeneration(
      {
        idPrefix: "cmpl-",
        fields: body,
        prompts: await encodeInTurns(prompts, text),
        promptParam: (index) => (isList ? `prompt[${index}]` : "prompt"),
        maxTokens: body.max_tokens ?? null,
        defaultMaxTokens: (roomTokens) => Math.min(defaultMaxTokens, roomTokens),
        logprobs: body.logprobs ?? null,
        promptLogprobs: body.echo ? (body.logprobs ?? null) : null,
      },
      { signal, record, tenant },
      context,
    );
    const writers = choiceWriters(body, generation, context);
    if (!body.stream) return Response.json(await collect(generation, writers));
    const events = chunks(body, generation, writers);
    return eventStream({ ...generation, events, record, logger: context.logger });
  },
});

/** One prompt after the other with a turn of the event loop between: a long list must not hold up the streams. */
async function encodeInTurns(prompts: CompletionRequest["prompt"]["prompts"], text: TextModel) {
  const encoded: (readonly number[])[] = [];
  for (const prompt of prompts) {
    encoded.push(await promptTokenIds(prompt, text));
    await new Promise((resolve) => setImmediate(resolve));
  }
  return encoded;
}

function choiceWriters(body: CompletionRequest, { plans }: Generation, context: ServerContext) {
  const { text } = context.readiness.serving;
  const choicesPerPrompt = body.n ?? 1;
  return plans.map((plan, index) => {
    const prompt = body.prompt.prompts[Math.floor(index / choicesPerPrompt)]!;
    const options = {
      index,
      plan,
      echo: body.echo ? promptText(prompt, text) : null,
      asTokenIds: body.return_tokens_as_token_ids ?? false,
      withTokenIds: body.return_token_ids ?? !text.hasTokenizer,
      everyToken: body.stream_options?.continuous_usage_stats ?? false,
    };
    return new CompletionChoiceWriter(options, text);
  });
}

async function collect(
  generation: Generation,
  writers: readonly CompletionChoiceWriter[],
): Promise<CompletionAnswer> {
  const parts = await collectParts(generation.pieces, writers);
  return {
    ...generation.head,
    object: "text_completion",
    choices: parts.map((chunks) => joinCompletionChunks(chunks, generation)),
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
    const chunk = writers[index]!.write(piece);
    if (chunk) yield { ...head, choices: [chunk], ...usage.field() };
  }
  const final = usage.final();
  if (final) yield { ...head, choices: [], usage: final };
}
