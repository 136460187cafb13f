// Shapes of POST /v1/completions.

import { z } from "@hono/zod-openapi";
import { neutralCompletionFields } from "../generation/neutral-fields.ts";
import { hasStreamForOptions, samplingFields, streamMissing } from "../generation/sampling-fields.ts";
import { promptSchema } from "./prompt.ts";
import { usageSchema } from "./usage.ts";

export const completionRequest = z
  .strictObject({
    ...samplingFields,
    ...neutralCompletionFields,
    prompt: promptSchema,
    max_tokens: z
      .int()
      .min(0)
      .nullish()
      .openapi({ description: "Default 16, or what the context has room for." }),
    echo: z.boolean().nullish(),
    logprobs: z.int().min(0).max(20).nullish().openapi({
      description:
        "The likeliest tokens beside each. Where no stream is asked for, choices times tokens times these are bounded: answer_too_large.",
    }),
    best_of: z.int().min(1).nullish().openapi({ description: "Refused unless it equals n." }),
  })
  .refine(hasStreamForOptions, streamMissing)
  .openapi("CompletionRequest");

export type CompletionRequest = z.output<typeof completionRequest>;

const completionLogprobs = z.object({
  tokens: z.array(z.string()),
  token_logprobs: z.array(z.number().nullable()),
  top_logprobs: z.array(z.record(z.string(), z.number()).nullable()),
  text_offset: z.array(z.int()),
});

const completionChoice = z.object({
  index: z.int(),
  text: z.string(),
  logprobs: completionLogprobs.nullable(),
  finish_reason: z.enum(["stop", "length"]).nullable(),
  stop_reason: z.union([z.string(), z.int()]).nullable(),
  token_ids: z.array(z.int()).optional(),
});

export const completionAnswer = z
  .object({
    id: z.string(),
    object: z.literal("text_completion"),
    created: z.int(),
    model: z.string(),
    system_fingerprint: z.string(),
    choices: z.array(completionChoice),
    usage: usageSchema.nullish(),
  })
  .openapi("Completion");

export type CompletionAnswer = z.output<typeof completionAnswer>;
export type CompletionChoice = z.output<typeof completionChoice>;
