// GET /v1/fine_tuning/jobs and /v1/fine_tuning/jobs/{id}.

import { z } from "@hono/zod-openapi";
import { InvalidFieldError } from "../../errors.ts";
import { tagsOf } from "../../finetuning/job-store.ts";
import { readQuery } from "../../query-parameters.ts";
import { jsonResponse, plainEndpoint } from "../endpoint.ts";
import { jobAnswer, jobAnswerOf } from "./job-answer.ts";
import { pageAnswer, pageOf, pageQuery } from "./pages.ts";

const mostPairs = 16; // a job has no more
const metadataName = /^metadata\[(.{1,64})\]$/;

/** `metadata[k]=v`, or `metadata=null` for jobs without any, beside the page. */
const query = z
  .looseObject({ ...pageQuery.shape, metadata: z.literal("null").exactOptional() })
  .transform(({ after = null, limit, metadata, ...others }, context) => {
    const wanted: [string, string][] = [];
    for (const [name, value] of Object.entries(others)) {
      const key = metadataName.exec(name)?.[1];
      if (key !== undefined && typeof value === "string") wanted.push([key, value]);
      else context.addIssue({ code: "unrecognized_keys", keys: [name], input: others });
    }
    if (wanted.length > mostPairs)
      context.addIssue({ code: "custom", path: ["metadata"], message: `has more than ${mostPairs} entries` });
    const tags = [...(metadata === undefined ? [] : tagsOf(null)), ...tagsOf(Object.fromEntries(wanted))];
    return { after, limit, tags };
  });

export const listJobs = plainEndpoint({
  method: "get",
  path: "/v1/fine_tuning/jobs",
  access: "manage",
  listener: "main",
  summary: "List your finetuning jobs, newest first",
  request: { query: pageQuery },
  responses: { 200: jsonResponse("A page.", pageAnswer(jobAnswer)) },
  async handle({ raw, tenant }, context) {
    const { after, limit, tags } = readQuery(raw, query);
    const { jobs } = context.readiness.serving;
    if (after !== null && jobs.store.get(after)?.tenant.id !== tenant.id) {
      throw new InvalidFieldError("after", "is no id of this list");
    }
    const { items, hasMore } = jobs.store.list(tenant.id, { after, limit }, tags);
    return Response.json(
      pageOf(
        items.map((job) => jobAnswerOf(job, context)),
        hasMore,
      ),
    );
  },
});

export const getJob = plainEndpoint({
  method: "get",
  path: "/v1/fine_tuning/jobs/{id}",
  access: "manage",
  listener: "main",
  summary: "Describe a finetuning job",
  request: { params: z.object({ id: z.string() }) },
  responses: { 200: jsonResponse("The job.", jobAnswer) },
  async handle({ parameter, tenant }, context) {
    const job = context.readiness.serving.jobs.get(tenant, parameter("id"));
    return Response.json(jobAnswerOf(job, context));
  },
});
