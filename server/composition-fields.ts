// The request field `adapters`: several adapters with weights, whose changes of the base add up.

import { z } from "@hono/zod-openapi";
import { mostAdapters } from "../adapters-store/combine/composition.ts";
import { boundedList } from "./generation/bounded.ts";

const maximumRanges = 256;
export const compositionModes = ["linear", "logits"] as const;
export type CompositionMode = (typeof compositionModes)[number];

const layerRange = z.strictObject({ from: z.int().min(0), to: z.int().min(0), weight: z.number() });

const weightedAdapter = z.strictObject({
  id: z.string().min(1),
  weight: z.number(),
  layers: boundedList(layerRange, maximumRanges).optional(),
});

/** As the document has it, which does not see into bounded lists. */
const weightedItem = {
  type: "object" as const,
  required: ["id", "weight"],
  additionalProperties: false,
  properties: {
    id: { type: "string" as const },
    weight: { type: "number" as const },
    layers: {
      type: "array" as const,
      maxItems: maximumRanges,
      description: "Weights in layers from..to, both included, in place of the entry's own.",
      items: {
        type: "object" as const,
        required: ["from", "to", "weight"],
        additionalProperties: false,
        properties: {
          from: { type: "integer" as const },
          to: { type: "integer" as const },
          weight: { type: "number" as const },
        },
      },
    },
  },
};

/** What only the model can tell (its layers), `parseComposition` checks. */
export const weightedAdapters = boundedList(weightedAdapter, mostAdapters).openapi({
  type: "array",
  maxItems: mostAdapters,
  items: weightedItem,
});

export const compositionFields = {
  adapters: weightedAdapters.nullish().openapi({
    type: ["array", "null"],
    maxItems: mostAdapters,
    items: weightedItem,
    description:
      "Several adapters at once, their changes of the base multiplied by their weights and added up; the base's own name stands for no change. `model` names the base then.",
  }),
  mode: z
    .enum(compositionModes)
    .nullish()
    .openapi({
      type: ["string", "null"],
      enum: [...compositionModes, null],
      description:
        "How `adapters` are combined: `linear` adds up their changes of the weights, in one pass; `logits` adds up what each changes in the next token's logits, in a row of its own for each and for the base.",
    }),
};
