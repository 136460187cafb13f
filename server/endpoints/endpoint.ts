// The contract of an endpoint: who may call it and where, its OpenAPI description and its handler. Knows no
// particular route.

import { type RouteConfig, z } from "@hono/zod-openapi";
import type { ServerContext } from "../context.ts";
import type { RequestRecord } from "../request-record.ts";
import type { Access, Tenant } from "../tenancy/tenant.ts";

/** The admin listener is bound apart, so that a network can tell it from the main one. */
export type ListenerName = "main" | "admin";

export type EndpointRequest<Body> = {
  readonly body: Body;
  /** Gives its memory's share back early; what was long in it must be gone by then. */
  readonly bodyDone: () => void;
  readonly raw: Request;
  readonly signal: AbortSignal; // aborted when the client is gone
  readonly record: RequestRecord;
  readonly tenant: Tenant; // `anonymous` on public routes
  readonly parameter: (name: string) => string; // of the path
};

export type EndpointResponses = RouteConfig["responses"];

/** An endpoint whose body is JSON has a schema; one without reads `raw` itself, or has no body. */
export type Endpoint = {
  readonly method: "get" | "post" | "delete";
  readonly path: `/${string}`; // parameters in braces, as OpenAPI writes them
  readonly access: Access; // the role that a key must cover
  readonly listener: ListenerName | "both";
  readonly summary: string;
  readonly request?: RouteConfig["request"];
  readonly responses: EndpointResponses;
  readonly jsonBody: z.ZodType | null;
  readonly handle: (request: EndpointRequest<unknown>, context: ServerContext) => Promise<Response>;
};

type JsonEndpoint<Schema extends z.ZodType> = Omit<Endpoint, "jsonBody" | "handle" | "request"> & {
  readonly jsonBody: Schema;
  readonly handle: (request: EndpointRequest<z.output<Schema>>, context: ServerContext) => Promise<Response>;
};

type PlainEndpoint = Omit<Endpoint, "jsonBody" | "handle"> & {
  readonly handle: (request: EndpointRequest<null>, context: ServerContext) => Promise<Response>;
};

/** An endpoint that takes JSON; its handler gets what its schema made of the body. */
export function jsonEndpoint<Schema extends z.ZodType>(endpoint: JsonEndpoint<Schema>): Endpoint {
  return {
    ...endpoint,
    request: {
      params: pathParameters(endpoint.path),
      body: { required: true, content: { "application/json": { schema: endpoint.jsonBody } } },
    },
    // app.ts parses the body with this very schema.
    handle: (request, context) => endpoint.handle(request as EndpointRequest<z.output<Schema>>, context),
  };
}

/** Those in a path's braces. */
function pathParameters(path: string) {
  const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name!);
  return z.object(Object.fromEntries(names.map((name) => [name, z.string()])));
}

export function plainEndpoint(endpoint: PlainEndpoint): Endpoint {
  return {
    ...endpoint,
    jsonBody: null,
    handle: (request, context) => endpoint.handle({ ...request, body: null }, context),
  };
}

export function jsonResponse(description: string, schema: z.ZodType): EndpointResponses[number] {
  return { description, content: { "application/json": { schema } } };
}
