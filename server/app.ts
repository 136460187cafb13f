// The HTTP application of one listener: its endpoints of the registry behind request id, log line, metrics, keys,
// limits and error mapping. Knows no port and no particular route.

import { OpenAPIHono } from "@hono/zod-openapi";
import type { Context } from "hono";
import { methodNotAllowed } from "hono/method-not-allowed";
import { TrieRouter } from "hono/router/trie-router";
import type { ServerContext } from "./context.ts";
import { type Endpoint, jsonResponse, type ListenerName } from "./endpoints/endpoint.ts";
import { endpoints } from "./endpoints/index.ts";
import { MethodNotAllowedError, RouteNotFoundError } from "./errors.ts";
import { errorBody, toHttpFailure } from "./http-error.ts";
import { readJsonBody } from "./json-body.ts";
import { type RequestEnvironment, requestLog } from "./request-log.ts";
import { admit } from "./tenancy/admit.ts";
import { anonymous } from "./tenancy/tenant.ts";
import { refuseWebPages } from "./tenancy/web-pages.ts";

export type App = OpenAPIHono<RequestEnvironment>;

// nginx's status for a client that left before its answer; nobody reads it but the log.
const clientClosedRequest = 499;

const keyScheme = "key";

export function createApp(context: ServerContext, listener: ListenerName = "main"): App {
  // Tries routes in the registry's order, so that an id with slashes ends where a route below it begins.
  const app: App = new OpenAPIHono({ router: new TrieRouter() });
  app.use(requestLog(context));
  if (context.refusesWebPages) app.use(refuseWebPages());
  app.use(
    methodNotAllowed({
      app,
      onMethodNotAllowed: (c, methods) => {
        const { status, body } = toHttpFailure(new MethodNotAllowedError(c.req.method, methods));
        return Response.json(body, { status, headers: { allow: methods.join(", ") } });
      },
    }),
  );
  for (const endpoint of Object.values<Endpoint>(endpoints)) {
    if (endpoint.listener === listener || endpoint.listener === "both") mount(app, endpoint, context);
  }
  mountDocument(app, context);
  app.notFound((c) => {
    const { status, body } = toHttpFailure(new RouteNotFoundError(c.req.method, c.req.path));
    return Response.json(body, { status });
  });
  app.onError((error, c) => failureResponse(error, c as Context<RequestEnvironment>, context));
  return app;
}

function mount(app: App, endpoint: Endpoint, context: ServerContext): void {
  const { method, path, summary, request, responses, jsonBody, access } = endpoint;
  app.openAPIRegistry.registerPath({
    method,
    path,
    summary,
    "x-cotenant-access": access,
    ...(access === "public" ? {} : { security: [{ [keyScheme]: [] }] }),
    ...(request ? { request } : {}),
    responses: { ...responses, default: jsonResponse("What is wrong, and what to do.", errorBody) },
  });
  // A parameter may hold slashes: ids of the hub are owner/name.
  app.on(method, path.replaceAll(/\{(\w+)\}/g, ":$1{.+}"), async (c) => {
    const record = c.get("record");
    const tenant = access === "public" ? anonymous : admit(c.req.raw, { access, record }, context);
    const raw = c.req.raw;
    using share = context.bodies.share(tenant.id);
    const body = jsonBody === null ? null : await readJsonBody(raw, jsonBody, share);
    const parameter = (name: string) => c.req.param(name) ?? "";
    const bodyDone = () => share[Symbol.dispose]();
    return await endpoint.handle(
      { body, bodyDone, raw, signal: raw.signal, record, tenant, parameter },
      context,
    );
  });
}

function mountDocument(app: App, context: ServerContext): void {
  app.openAPIRegistry.registerComponent("securitySchemes", keyScheme, { type: "http", scheme: "bearer" });
  app.openAPIRegistry.registerPath({
    method: "get",
    path: "/openapi.json",
    summary: "This document",
    "x-cotenant-access": "public",
    responses: { 200: { description: "OpenAPI 3.1." } },
  });
  const document = app.getOpenAPI31Document({
    openapi: "3.1.0",
    info: { title: "Cotenant", version: context.packageVersion },
  });
  app.get("/openapi.json", () => Response.json(document));
}

function failureResponse(error: unknown, c: Context<RequestEnvironment>, context: ServerContext): Response {
  if (c.req.raw.signal.aborted) return new Response(null, { status: clientClosedRequest });
  const { status, body, headers } = toHttpFailure(error);
  const record = c.get("record");
  record.failure = body.error.code;
  if (status === 500) context.logger.error({ err: error, requestId: record.id }, "request failed");
  return Response.json(body, { status, headers });
}
