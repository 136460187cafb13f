// The request field `adapters`: several adapters with weights, whose changes of the base add up.

import { z } from "@hono/zod-openapi";
import { boundedList } from "./generation/bounded.ts";

const maximumAdapters = 8;
const maximumRanges = 64;
const largestWeight = 100;

const weight = z.number().min(-largestWeight).max(largestWeight);

const layerRange = z
  .strictObject({ from: z.int().min(0), to: z.int().min(0), weight })
  .refine(({ from, to }) => from <= to, { path: ["to"], message: "is below from" })
  .openapi({ description: "The weight in layers from..to, both included, in place of the entry's own." });

const weightedAdapter = z.strictObject({
  id: z.string().min(1),
  weight,
  layers: boundedList(layerRange, maximumRanges).nullish(),
});

export type WeightedId = z.output<typeof weightedAdapter>;

export const weightedAdapters = boundedList(weightedAdapter, maximumAdapters).refine(
  ({ length }) => length > 0,
  "is an empty list; leave it out for the model alone",
);

const noLogits = 'only "linear" is, which adds up the weighted changes of the weights';

export const compositionFields = {
  adapters: weightedAdapters.nullish().openapi({
    description:
      "Several adapters at once, their changes of the base multiplied by their weights and added up; the base's own name stands for no change. `model` names the base then.",
  }),
  mode: z
    .unknown()
    .superRefine((value, context) => {
      if (value === undefined || value === null || value === "linear") return;
      context.addIssue({ code: "custom", message: noLogits, params: { unsupported: true } });
    })
    .openapi({ type: "string", enum: ["linear"], description: "How `adapters` are combined." }),
};
