// Middleware around every request: its id in and out, its tenant's limits in the answer's headers, its log line when
// the answer is over, its count in the metrics. Never logs what a client wrote.

import type { MiddlewareHandler } from "hono";
import { routePath } from "hono/route";
import type { ServerContext } from "./context.ts";
import { RequestRecord } from "./request-record.ts";

export type RequestEnvironment = { Variables: { record: RequestRecord } };

const idHeader = "x-request-id";

export function requestLog({
  limits,
  logger,
  metrics,
}: ServerContext): MiddlewareHandler<RequestEnvironment> {
  return async (c, next) => {
    const record = new RequestRecord(c.req.header(idHeader));
    c.set("record", record);
    await next();
    c.res.headers.set(idHeader, record.id);
    const { tenant } = record;
    if (tenant) for (const [name, value] of limits.headers(tenant)) c.res.headers.set(name, value);
    const status = c.res.status;
    const method = c.req.method;
    // The pattern, not the path: paths would be a label without bound.
    const pattern = routePath(c, -1);
    const route = pattern === "*" || pattern === "/*" ? "unmatched" : pattern;
    const end = () => {
      metrics.observeHttp({ route, method: knownMethods.has(method) ? method : "other", status });
      const { id, model, promptTokens, completionTokens, failure, arrivedMs } = record;
      logger.info({
        requestId: id,
        tenant: tenant?.id ?? null,
        method,
        route,
        status,
        model,
        promptTokens,
        completionTokens: completionTokens?.total ?? null,
        failure,
        ms: Math.round(performance.now() - arrivedMs),
      });
    };
    if (record.streamed) void record.streamed.then(end);
    else end();
  };
}

const knownMethods = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);
