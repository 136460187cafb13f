// GET /v1/fine_tuning/jobs/{id}/history: every step's loss and what else was measured, as CSV for plots.

import { z } from "@hono/zod-openapi";
import { stepsCsv } from "../../finetuning/steps-csv.ts";
import { plainEndpoint } from "../endpoint.ts";

export const jobHistory = plainEndpoint({
  method: "get",
  path: "/v1/fine_tuning/jobs/{id}/history",
  access: "manage",
  listener: "main",
  summary: "Every step of a finetuning job as CSV",
  request: { params: z.object({ id: z.string() }) },
  responses: { 200: { description: "A line per step.", content: { "text/csv": { schema: z.string() } } } },
  async handle({ parameter, tenant }, context) {
    const { jobs } = context.readiness.serving;
    const { id } = jobs.get(tenant, parameter("id"));
    const csv = ReadableStream.from(encoded(stepsCsv(jobs.store, id)));
    return new Response(csv, { headers: { "content-type": "text/csv; charset=utf-8" } });
  },
});

/** Read as fast as the client takes it. */
function* encoded(texts: Iterable<string>): Generator<Uint8Array> {
  const encoder = new TextEncoder();
  for (const text of texts) yield encoder.encode(text);
}
