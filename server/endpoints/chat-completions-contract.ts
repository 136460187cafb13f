// Shapes of POST /v1/chat/completions.

import { z } from "@hono/zod-openapi";
import { boundedList, boundedRecord } from "../generation/bounded.ts";
import { neutralChatFields, neutralMessageFields } from "../generation/neutral-fields.ts";
import {
  hasStreamForOptions,
  samplingFields,
  streamMissing,
  wellFormedText,
} from "../generation/sampling-fields.ts";
import { reservedTemplateVariables } from "../text/chat-template.ts";
import { usageSchema } from "./usage.ts";

const maximumMessages = 10_000;
const maximumParts = 10_000;

const templateVariable = z
  .string()
  .refine((name) => !reservedTemplateVariables.includes(name), "is set by the server");

const textPart = z.strictObject({ type: z.literal("text"), text: wellFormedText });

const message = z.strictObject({
  ...neutralMessageFields,
  role: z.enum(["system", "developer", "user", "assistant"]),
  content: z.union([wellFormedText, boundedList(textPart, maximumParts)]),
  name: wellFormedText.nullish(),
});

/** Shared with /tokenize, which shows what a conversation becomes. */
export const conversationFields = {
  messages: boundedList(message, maximumMessages).refine(({ length }) => length > 0, "has no message"),
  add_generation_prompt: z.boolean().nullish(),
  chat_template_kwargs: boundedRecord({ key: templateVariable, value: z.unknown() }, 64).nullish(),
};

const conversation = z.object(conversationFields);
export type Conversation = z.output<typeof conversation>;

export const chatRequest = z
  .strictObject({
    ...samplingFields,
    ...neutralChatFields,
    ...conversationFields,
    max_tokens: z.int().min(1).nullish().openapi({
      description: "Default: what the context has room for, or what the tenant's token limits leave.",
    }),
    max_completion_tokens: z.int().min(1).nullish(),
    logprobs: z.boolean().nullish(),
    top_logprobs: z.int().min(0).max(20).nullish(),
  })
  .refine(({ logprobs, top_logprobs }) => !top_logprobs || logprobs, {
    path: ["top_logprobs"],
    message: "needs logprobs: true",
  })
  .refine(
    (body) =>
      !body.max_tokens || !body.max_completion_tokens || body.max_tokens === body.max_completion_tokens,
    {
      path: ["max_completion_tokens"],
      message: "differs from max_tokens, its former name; send one",
    },
  )
  .refine(hasStreamForOptions, streamMissing)
  .openapi("ChatCompletionRequest");

export type ChatRequest = z.output<typeof chatRequest>;

const tokenLogprob = z.object({ token: z.string(), logprob: z.number(), bytes: z.array(z.int()) });
const chatLogprobs = z.object({
  content: z.array(tokenLogprob.extend({ top_logprobs: z.array(tokenLogprob) })),
});

const ending = {
  logprobs: chatLogprobs.nullable(),
  finish_reason: z.enum(["stop", "length"]).nullable(),
  stop_reason: z.union([z.string(), z.int()]).nullable(),
  token_ids: z.array(z.int()).optional(),
};

const chatChoice = z.object({
  index: z.int(),
  message: z.object({ role: z.literal("assistant"), content: z.string(), refusal: z.null() }),
  ...ending,
});

const chatChunkChoice = z.object({
  index: z.int(),
  delta: z.object({ role: z.literal("assistant").optional(), content: z.string().optional() }),
  ...ending,
});

const answerFields = { id: z.string(), created: z.int(), model: z.string(), system_fingerprint: z.string() };

export const chatAnswer = z
  .object({
    ...answerFields,
    object: z.literal("chat.completion"),
    choices: z.array(chatChoice),
    usage: usageSchema,
  })
  .openapi("ChatCompletion");

export const chatChunk = z
  .object({
    ...answerFields,
    object: z.literal("chat.completion.chunk"),
    choices: z.array(chatChunkChoice),
    usage: usageSchema.nullish(),
  })
  .openapi("ChatCompletionChunk");

export type ChatAnswer = z.output<typeof chatAnswer>;
export type ChatChunk = z.output<typeof chatChunk>;
