// The request fields that completions and chat share: OpenAI's sampling fields with OpenAI's ranges, and vLLM's
// extra ones with vLLM's.

import { z } from "@hono/zod-openapi";
import { compositionFields } from "../composition-fields.ts";
import { boundedList, boundedRecord, tokenIdList } from "./bounded.ts";
import { neutralFields } from "./neutral-fields.ts";

const maximumStops = 16; // OpenAI takes 4
const maximumBiases = 1024;
const maximumStopLength = 1024; // characters; what is held back while it may still come

const nullable = <Schema extends z.ZodType>(schema: Schema) => schema.nullish();

export const wellFormedText = z
  .string()
  .refine((value) => value.isWellFormed(), "holds an unpaired surrogate, which is no text");

const stopString = wellFormedText.min(1).max(maximumStopLength);

const tokenIdKey = z.string().regex(/^\d{1,9}$/, "is not a token id");

const wide = z
  .number()
  .min(-(2 ** 63))
  .max(2 ** 63)
  .refine(Number.isInteger, "is no whole number")
  .openapi({ type: "integer", format: "int64" });

export const samplingFields = {
  ...neutralFields,
  model: wellFormedText.min(1).openapi({ description: "The base's name, an adapter's id, or base:adapter." }),
  adapter_id: nullable(wellFormedText).openapi({ description: "LoRAX's way to name the adapter." }),
  ...compositionFields,
  temperature: nullable(z.number().min(0).max(2)),
  top_p: nullable(z.number().gt(0).max(1)),
  top_k: nullable(z.int().min(-1)).openapi({ description: "-1 and 0 turn it off." }),
  min_p: nullable(z.number().min(0).max(1)),
  repetition_penalty: nullable(z.number().min(0.01).max(100)),
  presence_penalty: nullable(z.number().min(-2).max(2)),
  frequency_penalty: nullable(z.number().min(-2).max(2)),
  logit_bias: nullable(
    boundedRecord({ key: tokenIdKey, value: z.number().min(-100).max(100) }, maximumBiases),
  ),
  seed: nullable(wide), // beyond 2^53 as near as JSON brings it
  n: nullable(z.int().min(1).max(128)),
  stop: nullable(z.union([stopString, boundedList(stopString, maximumStops)])),
  include_stop_str_in_output: nullable(z.boolean()),
  stop_token_ids: nullable(tokenIdList(1024)),
  min_tokens: nullable(z.int().min(0)),
  ignore_eos: nullable(z.boolean()),
  skip_special_tokens: nullable(z.boolean()),
  return_tokens_as_token_ids: nullable(z.boolean()),
  return_token_ids: nullable(z.boolean()).openapi({
    description: "Adds token_ids to every choice; the default is true where the model has no tokenizer.",
  }),
  priority: nullable(z.int().min(-1000).max(1000)).openapi({
    description:
      "vLLM's: a lower value runs earlier and may take the rows of higher ones; default 0. Below 0 needs a key with the role admin.",
  }),
  timeout_ms: nullable(z.int().min(1).max(86_400_000)).openapi({
    description: "The request ends with an error when it is not done so many milliseconds after it came.",
  }),
  stream: nullable(z.boolean()),
  stream_options: nullable(
    z.strictObject({
      include_usage: nullable(z.boolean()),
      continuous_usage_stats: nullable(z.boolean()),
      include_obfuscation: nullable(z.literal(false)),
    }),
  ),
};

type StreamFields = { readonly stream?: boolean | null | undefined; readonly stream_options?: unknown };

/** OpenAI's and vLLM's rule for both bodies, with the complaint for `refine`. */
export function hasStreamForOptions({ stream, stream_options }: StreamFields): boolean {
  return Boolean(stream) || stream_options === null || stream_options === undefined;
}
export const streamMissing = { path: ["stream_options"], message: "needs stream: true" };

const fieldsSchema = z.object(samplingFields);
export type SamplingFields = Omit<z.output<typeof fieldsSchema>, keyof typeof neutralFields>;
