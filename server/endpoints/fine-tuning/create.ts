// POST /v1/fine_tuning/jobs: a job is there once all of it has been checked; what cannot be trained is refused.

import { z } from "@hono/zod-openapi";
import { type JobRequest, jobOf } from "../../finetuning/job-request.ts";
import { boundedRecord } from "../../generation/bounded.ts";
import { wellFormedText } from "../../generation/sampling-fields.ts";
import { jsonEndpoint, jsonResponse } from "../endpoint.ts";
import { jobAnswer, jobAnswerOf } from "./job-answer.ts";

/** Names and values are checked by the tables of finetuning. */
const settings = boundedRecord({ key: z.string(), value: z.unknown() }, 64).openapi({
  description: 'What is left out, or "auto", is chosen by the examples and the method.',
});

const ofType = z.strictObject({ hyperparameters: settings.nullish() });

const ofAnotherType = (name: string) => ({
  message: "is given for a method of another type; leave it out, or change method.type",
  path: [name],
});

const method = z
  .strictObject({
    type: z.enum(["supervised", "dpo"]),
    supervised: ofType.nullish(),
    dpo: ofType.nullish(),
    adapter: settings
      .nullish()
      .openapi({ description: 'What is trained: {"type": "lora", ...its settings}. Default: lora.' }),
  })
  .refine(({ type, dpo }) => type === "dpo" || !dpo, ofAnotherType("dpo"))
  .refine(({ type, supervised }) => type === "supervised" || !supervised, ofAnotherType("supervised"));

const createRequest = z
  .strictObject({
    model: z.string().openapi({ description: "The base, or an adapter of yours to continue from." }),
    training_file: z.string(),
    validation_file: z.string().nullish(),
    suffix: z.string().min(1).max(64).nullish().openapi({ description: "A part of the result's name." }),
    seed: z
      .int()
      .min(0)
      .max(2 ** 32 - 1)
      .nullish(),
    hyperparameters: settings.nullish().openapi({ description: "Former place of method's." }),
    method: method.nullish(),
    metadata: z
      .record(z.string().max(64), wellFormedText.max(512))
      .refine((pairs) => Object.keys(pairs).length <= 16, "has more than 16 entries")
      .nullish(),
    integrations: z.array(z.unknown()).max(0, "none is supported; send none").nullish(),
  })
  .refine(({ hyperparameters, method }) => !hyperparameters || !method?.[method.type]?.hyperparameters, {
    message: "is given beside method's; give one",
    path: ["hyperparameters"],
  })
  .openapi("CreateFineTuningJobRequest");

export const createJob = jsonEndpoint({
  method: "post",
  path: "/v1/fine_tuning/jobs",
  access: "manage",
  listener: "main",
  summary: "Train an adapter; the job goes on by itself whatever becomes of the server",
  jsonBody: createRequest,
  responses: {
    200: jsonResponse(
      "The job, as it was made: queued, or validating_files where its files are too large to be encoded at once.",
      jobAnswer,
    ),
  },
  async handle({ body, signal, tenant }, context) {
    const { adaptersOf, engine, jobs, jobSources, trainingMemoryBytes } = context.readiness.serving;
    jobs.assertRoom(tenant);
    const adapters = adaptersOf(tenant);
    const checked = await jobOf(requestOf(body), {
      baseName: context.baseName,
      tenant,
      adapter: (id) => adapters.get(id),
      model: engine.model,
      sources: jobSources,
      trainingMemoryBytes,
      signal,
    });
    return Response.json(jobAnswerOf(await jobs.create(checked()), context));
  },
});

function requestOf(body: z.output<typeof createRequest>): JobRequest {
  const { method, metadata } = body;
  const type = method?.type ?? "supervised";
  const own = method?.[type]?.hyperparameters ?? null;
  return {
    model: body.model,
    trainingFile: body.training_file,
    validationFile: body.validation_file ?? null,
    suffix: body.suffix ?? null,
    seed: body.seed ?? null,
    metadata: metadata ?? null,
    type,
    hyperparameters: own ?? body.hyperparameters ?? {},
    hyperparametersPath: own === null ? "hyperparameters" : `method.${type}.hyperparameters`,
    adapter: method?.adapter ?? {},
  };
}
