// DELETE /v1/requests/{id}: ends a request that is being generated, whatever connection it came on.

import { z } from "@hono/zod-openapi";
import { jsonResponse, plainEndpoint } from "./endpoint.ts";

const cancelled = z.object({ id: z.string(), object: z.literal("request"), cancelled: z.literal(true) });

export const cancelRequest = plainEndpoint({
  method: "delete",
  path: "/v1/requests/{id}",
  access: "inference",
  listener: "main",
  summary:
    "Cancel a request of yours, by the id of its answer or by the x-request-id that you sent with it; it ends with the error request_cancelled",
  request: { params: z.object({ id: z.string() }) },
  responses: { 200: jsonResponse("It ends now.", cancelled) },
  async handle({ tenant, parameter }, { requests }) {
    const id = parameter("id");
    requests.cancel(id, tenant.id);
    return Response.json({ id, object: "request", cancelled: true });
  },
});
