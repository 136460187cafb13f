// POST /v1/adapters/{id}/pin, /unpin and /prefetch: what is in memory before a request wants it.

import { z } from "@hono/zod-openapi";
import { jsonResponse, plainEndpoint } from "../endpoint.ts";
import { adapterAnswer, answerOf } from "./adapter-answer.ts";

const idParameter = { params: z.object({ id: z.string() }) };

export const pinAdapter = pinning("pin", "Load an adapter and keep it in memory, also after a restart");
export const unpinAdapter = pinning("unpin", "Let an adapter leave memory for others again");

function pinning(action: "pin" | "unpin", summary: string) {
  return plainEndpoint({
    method: "post",
    path: `/v1/adapters/{id}/${action}`,
    access: "manage",
    listener: "main",
    summary,
    request: idParameter,
    responses: { 200: jsonResponse("It is done.", adapterAnswer) },
    async handle({ parameter, tenant }, context) {
      const adapters = context.readiness.serving.adaptersOf(tenant);
      return Response.json(answerOf(await adapters.setPinned(parameter("id"), action === "pin"), context));
    },
  });
}

export const prefetchAdapter = plainEndpoint({
  method: "post",
  path: "/v1/adapters/{id}/prefetch",
  access: "inference",
  listener: "main",
  summary:
    "Load an adapter that is about to be used, unless others would have to leave for it while requests wait",
  request: idParameter,
  responses: {
    200: jsonResponse(
      "Whether it is in memory.",
      z.object({ id: z.string(), object: z.literal("adapter.prefetch"), loaded: z.boolean() }),
    ),
  },
  async handle({ parameter, tenant }, context) {
    const id = parameter("id");
    const loaded = await context.readiness.serving.adaptersOf(tenant).prefetch(id);
    return Response.json({ id, object: "adapter.prefetch", loaded });
  },
});
