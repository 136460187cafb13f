// GET /v1/models and /v1/models/{id}: the base and every adapter that the key may call, in vLLM's shape.

import { z } from "@hono/zod-openapi";
import type { ServerContext } from "../context.ts";
import { ModelNotFoundError } from "../errors.ts";
import type { ServedAdapter } from "../served-adapters.ts";
import { jsonResponse, plainEndpoint } from "./endpoint.ts";

const modelCard = z
  .object({
    id: z.string(),
    object: z.literal("model"),
    created: z.int(),
    owned_by: z.string(),
    root: z.string(),
    parent: z.string().nullable(),
    max_model_len: z.int(),
    permission: z.array(z.unknown()),
  })
  .openapi("Model");

type ModelCard = z.output<typeof modelCard>;

export const listModels = plainEndpoint({
  method: "get",
  path: "/v1/models",
  access: "inference",
  listener: "main",
  summary: "List the base and the adapters",
  responses: {
    200: jsonResponse("The base first.", z.object({ object: z.literal("list"), data: z.array(modelCard) })),
  },
  async handle({ tenant }, context) {
    const adapters = context.readiness.serving.adaptersOf(tenant).list();
    const data = [baseCard(context), ...adapters.map((adapter) => adapterCard(adapter, context))];
    return Response.json({ object: "list", data });
  },
});

export const getModel = plainEndpoint({
  method: "get",
  path: "/v1/models/{id}",
  access: "inference",
  listener: "main",
  summary: "Describe the base or one adapter",
  request: { params: z.object({ id: z.string() }) },
  responses: { 200: jsonResponse("The model.", modelCard) },
  async handle({ parameter, tenant }, context) {
    const id = parameter("id");
    if (id === context.baseName) return Response.json(baseCard(context));
    const adapter = context.readiness.serving.adaptersOf(tenant).get(id);
    if (!adapter) throw new ModelNotFoundError(id, "model");
    return Response.json(adapterCard(adapter, context));
  },
});

function baseCard(context: ServerContext): ModelCard {
  const { engine, baseRoot } = context.readiness.serving;
  return card({
    id: context.baseName,
    created: context.startedAtSeconds,
    root: baseRoot,
    parent: null,
    max_model_len: engine.model.maxContext,
  });
}

function adapterCard(adapter: ServedAdapter, context: ServerContext): ModelCard {
  return card({
    id: adapter.id,
    created: Math.floor(adapter.createdAtMs / 1000),
    root: adapter.location,
    parent: context.baseName,
    max_model_len: context.readiness.serving.engine.model.maxContext,
  });
}

function card(known: Omit<ModelCard, "object" | "owned_by" | "permission">): ModelCard {
  return { object: "model", owned_by: "cotenant", permission: [], ...known };
}
