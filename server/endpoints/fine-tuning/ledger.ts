// GET and DELETE /v1/fine_tuning/jobs/{id}/ledger: a checkpoint as a container that holds the steps that made it, some
// kilobytes.

import { z } from "@hono/zod-openapi";
import { CotenantError } from "../../../kernels/errors.ts";
import { readQuery } from "../../query-parameters.ts";
import { jsonResponse, plainEndpoint } from "../endpoint.ts";

const query = z.strictObject({
  step: z.coerce
    .number()
    .int()
    .min(1)
    .exactOptional()
    .openapi({ type: "integer", description: "of a checkpoint; default: the newest one" }),
});

export const jobLedger = plainEndpoint({
  method: "get",
  path: "/v1/fine_tuning/jobs/{id}/ledger",
  access: "manage",
  listener: "main",
  summary: "A checkpoint of a job without gradients as a seed ledger, which can be uploaded as an adapter",
  request: { params: z.object({ id: z.string() }), query },
  responses: {
    200: {
      description: "The container.",
      content: { "application/octet-stream": { schema: z.string().openapi({ format: "binary" }) } },
    },
  },
  async handle({ raw, parameter, tenant }, context) {
    const { jobs } = context.readiness.serving;
    const job = jobs.get(tenant, parameter("id"));
    const { step } = readQuery(raw, query);
    const row =
      step === undefined
        ? jobs.store.checkpoints(job.id, { after: null, limit: 1 }).items[0]
        : jobs.store.checkpoint(job.id, step);
    if (row === undefined) throw noCheckpoint(job.id, step);
    const container = await jobs.ledgers.container(job, row.step);
    return new Response(new Uint8Array(container), {
      headers: {
        "content-type": "application/octet-stream",
        "content-disposition": `attachment; filename="${row.adapterId}.cotenant"`,
        "x-adapter-version": row.version,
      },
    });
  },
});

export const deleteLedger = plainEndpoint({
  method: "delete",
  path: "/v1/fine_tuning/jobs/{id}/ledger",
  access: "manage",
  listener: "main",
  summary:
    "Delete the seed ledger of a job that is over, which counts among your stored bytes; its adapters stay",
  request: { params: z.object({ id: z.string() }) },
  responses: {
    200: jsonResponse(
      "It is gone.",
      z.object({ id: z.string(), object: z.literal("fine_tuning.job.ledger"), deleted: z.literal(true) }),
    ),
  },
  async handle({ parameter, tenant }, context) {
    const { jobs } = context.readiness.serving;
    const job = jobs.get(tenant, parameter("id"));
    await jobs.ledgers.remove(job);
    return Response.json({ id: job.id, object: "fine_tuning.job.ledger", deleted: true });
  },
});

function noCheckpoint(id: string, step: number | undefined): CotenantError {
  const which = step === undefined ? "no checkpoint yet" : `no checkpoint of step ${step}`;
  return new CotenantError(
    "ledger_not_found",
    `${id} has published ${which}; GET /v1/fine_tuning/jobs/${id}/checkpoints lists them`,
  );
}
