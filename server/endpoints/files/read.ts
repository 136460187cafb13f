// GET /v1/files and /v1/files/{id}.

import { z } from "@hono/zod-openapi";
import { fileIdPattern, filePurposes } from "../../finetuning/stored-file.ts";
import { readQuery } from "../../query-parameters.ts";
import { jsonResponse, plainEndpoint } from "../endpoint.ts";
import { fileAnswer, fileAnswerOf } from "./file-answer.ts";

const mostPerPage = 10_000; // OpenAI's

const pageQuery = z.strictObject({
  after: z
    .string()
    .regex(fileIdPattern, "is not the id of a file")
    .exactOptional()
    .openapi({ description: "the last id of the page before" }),
  limit: z.coerce.number().int().min(1).max(mostPerPage).default(mostPerPage),
  order: z.enum(["asc", "desc"]).default("desc").openapi({ description: "of creation" }),
  purpose: z.string().exactOptional(),
});

const page = z.object({
  object: z.literal("list"),
  data: z.array(fileAnswer),
  first_id: z.string().nullable(),
  last_id: z.string().nullable(),
  has_more: z.boolean(),
});

export const listFiles = plainEndpoint({
  method: "get",
  path: "/v1/files",
  access: "manage",
  listener: "main",
  summary: "List your files, newest first",
  request: { query: pageQuery },
  responses: { 200: jsonResponse("A page.", page) },
  async handle({ raw, tenant }, context) {
    const { after = null, limit, order, purpose } = readQuery(raw, pageQuery);
    const { trainingFiles } = context.readiness.serving;
    const known = filePurposes.find((each) => each === purpose);
    const { files, hasMore } =
      purpose === undefined || known !== undefined
        ? trainingFiles.list(tenant.id, { after, limit, order, ...(known && { purpose: known }) })
        : { files: [], hasMore: false };
    return Response.json({
      object: "list",
      data: files.map(fileAnswerOf),
      first_id: files[0]?.id ?? null,
      last_id: files.at(-1)?.id ?? null,
      has_more: hasMore,
    });
  },
});

export const getFile = plainEndpoint({
  method: "get",
  path: "/v1/files/{id}",
  access: "manage",
  listener: "main",
  summary: "Describe a file",
  request: { params: z.object({ id: z.string() }) },
  responses: { 200: jsonResponse("The file.", fileAnswer) },
  async handle({ parameter, tenant }, context) {
    const { trainingFiles } = context.readiness.serving;
    return Response.json(fileAnswerOf(trainingFiles.get(tenant.id, parameter("id"))));
  },
});
