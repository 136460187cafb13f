// DELETE /v1/adapters/{id} and /v1/adapters/{id}/versions/{version}: refused while requests use what would go, unless
// forced; these then end on their version, whose files go when the last one has.

import { z } from "@hono/zod-openapi";
import { readQuery } from "../../query-parameters.ts";
import { jsonResponse, plainEndpoint } from "../endpoint.ts";

const query = z.strictObject({
  force: z
    .enum(["true", "false", "1", "0", ""])
    .default("false")
    .transform((text) => !["false", "0"].includes(text)), // ?force alone means yes
});

export const deleteAdapter = plainEndpoint({
  method: "delete",
  path: "/v1/adapters/{id}",
  access: "manage",
  listener: "main",
  summary: "Remove an adapter's id with its history; 409 while requests use it, unless force=true",
  request: { params: z.object({ id: z.string() }), query },
  responses: {
    200: jsonResponse(
      "It cannot be named any more.",
      z.object({ id: z.string(), object: z.literal("adapter"), deleted: z.literal(true) }),
    ),
  },
  async handle({ raw, parameter, tenant }, context) {
    const id = parameter("id");
    await context.readiness.serving.adaptersOf(tenant).remove(id, readQuery(raw, query));
    return Response.json({ id, object: "adapter", deleted: true });
  },
});

export const deleteAdapterVersion = plainEndpoint({
  method: "delete",
  path: "/v1/adapters/{id}/versions/{version}",
  access: "manage",
  listener: "main",
  summary: "Remove a version that is not the current one from an adapter's history",
  request: { params: z.object({ id: z.string(), version: z.string() }), query },
  responses: {
    200: jsonResponse(
      "It is gone.",
      z.object({
        id: z.string(),
        object: z.literal("adapter.version"),
        version: z.string(),
        deleted: z.literal(true),
      }),
    ),
  },
  async handle({ raw, parameter, tenant }, context) {
    const [id, version] = [parameter("id"), parameter("version")];
    await context.readiness.serving.adaptersOf(tenant).removeVersion(id, version, readQuery(raw, query));
    return Response.json({ id, object: "adapter.version", version, deleted: true });
  },
});
