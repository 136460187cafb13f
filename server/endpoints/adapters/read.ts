// GET /v1/adapters, /v1/adapters/{id} and /v1/adapters/{id}/versions. An id whose slashes are written as %2F is never
// taken for a route below another id.

import { z } from "@hono/zod-openapi";
import { readQuery } from "../../query-parameters.ts";
import { jsonResponse, plainEndpoint } from "../endpoint.ts";
import { adapterAnswer, answerOf, versionAnswer, versionAnswerOf } from "./adapter-answer.ts";

const pageQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(100).default(20),
  after: z.string().exactOptional().openapi({ description: "the last_id of the page before" }),
});

const page = z.object({
  object: z.literal("list"),
  data: z.array(adapterAnswer),
  first_id: z.string().nullable(),
  last_id: z.string().nullable(),
  has_more: z.boolean(),
});

export const listAdapters = plainEndpoint({
  method: "get",
  path: "/v1/adapters",
  access: "inference",
  listener: "main",
  summary: "List the adapters that the key may use, by id",
  request: { query: pageQuery },
  responses: { 200: jsonResponse("A page.", page) },
  async handle({ raw, tenant }, context) {
    const { adapters, next } = context.readiness.serving.adaptersOf(tenant).page(readQuery(raw, pageQuery));
    return Response.json({
      object: "list",
      data: adapters.map((adapter) => answerOf(adapter, context)),
      first_id: adapters[0]?.id ?? null,
      last_id: adapters.at(-1)?.id ?? null,
      has_more: next !== null,
    });
  },
});

const residency = z.object({
  tier: z
    .enum(["store", "host", "device"])
    .nullable()
    .openapi({ description: "null where others have the same version too, unless everybody may use it" }),
  uses: z
    .object({
      leases: z.int(),
      hits: z.int(),
      misses: z.int(),
      loads: z.int(),
      last_used_at: z.number().nullable(),
    })
    .nullable()
    .openapi({ description: "since the server's start; null where others have the same version too" }),
});

const described = adapterAnswer.extend({ residency }).openapi("DescribedAdapter");

export const getAdapter = plainEndpoint({
  method: "get",
  path: "/v1/adapters/{id}",
  access: "inference",
  listener: "main",
  summary: "Describe an adapter and where it is in memory",
  request: { params: z.object({ id: z.string() }) },
  responses: { 200: jsonResponse("The adapter.", described) },
  async handle({ parameter, tenant }, context) {
    const adapters = context.readiness.serving.adaptersOf(tenant);
    const adapter = adapters.describe(parameter("id"));
    const { tier, uses } = adapters.residencyOf(adapter.version);
    const counted = uses && {
      leases: uses.leases,
      hits: uses.hits,
      misses: uses.misses,
      loads: uses.loads,
      last_used_at: uses.lastUsedMs === null ? null : uses.lastUsedMs / 1000,
    };
    return Response.json({ ...answerOf(adapter, context), residency: { tier, uses: counted } });
  },
});

export const listAdapterVersions = plainEndpoint({
  method: "get",
  path: "/v1/adapters/{id}/versions",
  access: "inference",
  listener: "main",
  summary: "List the versions that an adapter's id has had, newest first",
  request: { params: z.object({ id: z.string() }) },
  responses: {
    200: jsonResponse("The versions.", z.object({ object: z.literal("list"), data: z.array(versionAnswer) })),
  },
  async handle({ parameter, tenant }, context) {
    const adapters = context.readiness.serving.adaptersOf(tenant);
    const { version: current } = adapters.describe(parameter("id"));
    const data = adapters
      .versions(parameter("id"))
      .map((version) => versionAnswerOf(version, current, context));
    return Response.json({ object: "list", data });
  },
});
