// GET /v1/fine_tuning/jobs/{id}/events: a page, or with stream=true all of them and then each as it happens, until
// the job is over.

import { z } from "@hono/zod-openapi";
import { eventStream } from "../../event-stream.ts";
import { linkedController } from "../../linked-controller.ts";
import { readQuery } from "../../query-parameters.ts";
import { plainEndpoint } from "../endpoint.ts";
import { eventAnswer, eventAnswerOf, eventPrefix } from "./job-answer.ts";
import { numberedCursor, openPageQuery, pageAnswer, pageLimit, pageOf } from "./pages.ts";

const query = openPageQuery
  .extend({ stream: z.enum(["true", "false"]).default("false") })
  .refine(({ limit, stream }) => stream === "false" || limit === undefined, {
    message: "is of a page; leave it out with stream=true",
    path: ["limit"],
  });

export const jobEvents = plainEndpoint({
  method: "get",
  path: "/v1/fine_tuning/jobs/{id}/events",
  access: "manage",
  listener: "main",
  summary:
    "What happened to a finetuning job, newest first; with stream=true oldest first, behind `after` where it is given, as server-sent events",
  request: { params: z.object({ id: z.string() }), query },
  responses: {
    200: {
      description: "A page, or a stream.",
      content: {
        "application/json": { schema: pageAnswer(eventAnswer) },
        "text/event-stream": { schema: eventAnswer },
      },
    },
  },
  async handle({ parameter, raw, record, signal, tenant }, { readiness, logger }) {
    const { jobs } = readiness.serving;
    const { id } = jobs.get(tenant, parameter("id"));
    const { after, limit = pageLimit, stream } = readQuery(raw, query);
    const cursor = numberedCursor(after, eventPrefix(id));
    if (stream === "true") {
      const leaving = linkedController(signal);
      async function* events() {
        for await (const news of jobs.followNews(id, { after: cursor ?? 0, signal: leaving.signal }))
          yield eventAnswerOf(id, news);
      }
      const abort = () => leaving.abort();
      return eventStream({ events: events(), signal: leaving.signal, abort, record, logger });
    }
    jobs.store.flush();
    const { items, hasMore } = jobs.store.news(id, { after: cursor, limit });
    return Response.json(
      pageOf(
        items.map((news) => eventAnswerOf(id, news)),
        hasMore,
      ),
    );
  },
});
