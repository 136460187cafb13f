// GET /v1/usage, a tenant's own, and GET /v1/organization/usage/completions, everybody's, for admins: what the ledger
// holds, in the shape of OpenAI's organization usage.

import { z } from "@hono/zod-openapi";
import type { ServerContext } from "../context.ts";
import { InvalidFieldError } from "../errors.ts";
import { listParameter, readQuery } from "../query-parameters.ts";
import type { UsageDimension, UsageRow } from "../usage/ledger.ts";
import { type Endpoint, jsonResponse, plainEndpoint } from "./endpoint.ts";

const unixSeconds = z.coerce
  .number("must be there, in Unix seconds, such as 1750000000")
  .int()
  .min(0)
  .max(2 ** 40);

/** OpenAI's names, of which a project is a tenant here, and one of ours. */
const dimensions = {
  project_id: "tenant",
  model: "model",
  adapter_version: "version",
} as const satisfies Record<string, UsageDimension>;

const widths = {
  "1h": { seconds: 3600, limit: 24, maximum: 168 },
  "1d": { seconds: 86_400, limit: 7, maximum: 31 },
} as const;

const query = z.strictObject({
  start_time: unixSeconds.openapi({ description: "Unix seconds; the bucket that holds it is the first." }),
  end_time: unixSeconds.optional().openapi({ description: "Not included. Default: now." }),
  bucket_width: z.enum(["1h", "1d"]).default("1d").openapi({ description: "Buckets begin by UTC." }),
  group_by: listParameter(z.enum(["project_id", "model", "adapter_version"])),
  limit: z.coerce.number().int().min(1).optional().openapi({ description: "Buckets of a page." }),
  page: z.string().regex(/^\d+$/).optional().openapi({ description: "next_page of the page before." }),
});

const result = z.object({
  object: z.literal("organization.usage.completions.result"),
  input_tokens: z.int(),
  input_cached_tokens: z.int(),
  output_tokens: z.int(),
  num_model_requests: z.int(),
  project_id: z.string().nullable(),
  model: z.string().nullable(),
  adapter_version: z.string().nullable(),
});

const bucket = z.object({
  object: z.literal("bucket"),
  start_time: z.int(),
  end_time: z.int(),
  results: z.array(result),
});

const usagePage = z
  .object({
    object: z.literal("page"),
    data: z.array(bucket),
    has_more: z.boolean(),
    next_page: z.string().nullable(),
  })
  .openapi("UsagePage");

type UsagePage = z.output<typeof usagePage>;

const shape = {
  method: "get",
  request: { query },
  responses: { 200: jsonResponse("Buckets, oldest first; one that nobody used has no results.", usagePage) },
} as const satisfies Partial<Endpoint>;

export const usageReport = plainEndpoint({
  ...shape,
  path: "/v1/usage",
  access: "inference",
  listener: "main",
  summary: "Your requests and tokens, by time and model",
  async handle({ raw, tenant }, context) {
    return Response.json(report(raw, tenant.id, context));
  },
});

export const organizationUsage = plainEndpoint({
  ...shape,
  path: "/v1/organization/usage/completions",
  access: "admin",
  listener: "admin",
  summary: "Every tenant's requests and tokens, by time, tenant and model",
  async handle({ raw }, context) {
    return Response.json(report(raw, null, context));
  },
});

function report(raw: Request, tenantId: string | null, context: ServerContext): UsagePage {
  const { start_time, end_time, bucket_width, group_by, limit, page } = readQuery(raw, query);
  const width = widths[bucket_width];
  if (limit !== undefined && limit > width.maximum) {
    throw new InvalidFieldError("limit", `is at most ${width.maximum} for ${bucket_width}`);
  }
  const start = floorTo(page === undefined ? start_time : Number(page), width.seconds);
  const end = ceilTo(end_time ?? Date.now() / 1000, width.seconds);
  if (end_time !== undefined && end_time <= start_time) {
    throw new InvalidFieldError("end_time", "must be after start_time");
  }
  const pageEnd = Math.min(end, start + (limit ?? width.limit) * width.seconds);
  const rows = context.readiness.serving.usage.report({
    tenantId,
    startSeconds: start,
    endSeconds: pageEnd,
    widthSeconds: width.seconds,
    groupBy: (group_by ?? []).map((name) => dimensions[name]),
  });
  const byStart = Map.groupBy(rows, (row) => row.startSeconds);
  const data: UsagePage["data"] = [];
  for (let from = start; from < pageEnd; from += width.seconds) {
    const results = (byStart.get(from) ?? []).map(resultOf);
    data.push({ object: "bucket", start_time: from, end_time: from + width.seconds, results });
  }
  const hasMore = pageEnd < end;
  return { object: "page", data, has_more: hasMore, next_page: hasMore ? String(pageEnd) : null };
}

function resultOf(row: UsageRow): z.output<typeof result> {
  return {
    object: "organization.usage.completions.result",
    input_tokens: row.promptTokens,
    input_cached_tokens: row.cachedPromptTokens,
    output_tokens: row.completionTokens,
    num_model_requests: row.requests,
    project_id: row.tenant,
    model: row.model,
    adapter_version: row.version,
  };
}

function floorTo(seconds: number, width: number): number {
  return Math.floor(seconds / width) * width;
}

function ceilTo(seconds: number, width: number): number {
  return Math.ceil(seconds / width) * width;
}
