// POST /v1/adapters/{id}/alias: moves a name to one of the adapter's versions, at once and for good.

import { z } from "@hono/zod-openapi";
import { jsonEndpoint, jsonResponse } from "../endpoint.ts";
import { adapterAnswer, answerOf } from "./adapter-answer.ts";

const aliasBody = z
  .strictObject({
    alias: z.string().optional().openapi({ description: "the name that moves, new or not; default: the id" }),
    name: z.string().optional().openapi({ description: "the same as alias" }),
    version: z.string().optional().openapi({ description: "default: what the id means now" }),
  })
  .refine(({ alias, name }) => alias === undefined || name === undefined, {
    message: "is given twice, as alias and as name; give one",
    path: ["alias"],
  })
  .refine(({ alias, name, version }) => (alias ?? name ?? version) !== undefined, {
    message: "is missing; give the name that shall move, a version of this adapter, or both",
    path: ["alias"],
  });

export const moveAlias = jsonEndpoint({
  method: "post",
  path: "/v1/adapters/{id}/alias",
  access: "manage",
  listener: "main",
  summary: "Make a name mean a version of this adapter; requests under way keep the version they began with",
  jsonBody: aliasBody,
  responses: { 200: jsonResponse("What the name means now.", adapterAnswer) },
  async handle({ body, parameter, tenant }, context) {
    const id = parameter("id");
    const { alias, name, version = null } = body;
    const moved = await context.readiness.serving
      .adaptersOf(tenant)
      .move({ id, alias: alias ?? name ?? id, version });
    return Response.json(answerOf(moved, context));
  },
});
