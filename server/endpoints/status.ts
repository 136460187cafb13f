// GET /health, /ready, /version and /metrics: for probes, routers and scrapers. They answer while the engine loads.

import { z } from "@hono/zod-openapi";
import { NotReadyError } from "../errors.ts";
import { jsonResponse, plainEndpoint } from "./endpoint.ts";

const ok = jsonResponse("All is well.", z.object({ status: z.literal("ok") }));

const readyAnswer = jsonResponse(
  "Requests can be served, within so much memory.",
  z.object({
    status: z.literal("ok"),
    memory: z.object({
      plan_bytes: z.int().openapi({ description: "The most that the process may come to use." }),
      limit_bytes: z.int().openapi({ description: "What the machine or the container has." }),
      parts: z.record(z.string(), z.int()).openapi({ description: "What the plan is made of." }),
      device: z
        .object({ plan_bytes: z.int(), parts: z.record(z.string(), z.int()) })
        .nullable()
        .openapi({ description: "The same of a device's own memory; null where the CPU serves." }),
    }),
  }),
);

export const health = plainEndpoint({
  method: "get",
  path: "/health",
  access: "public",
  listener: "both",
  summary: "Whether the process lives; 503 once the engine has died, so that it is restarted",
  responses: { 200: ok },
  async handle(_, { readiness }) {
    if (readiness.state.name === "failed") throw new NotReadyError(readiness.obstacle ?? "");
    return Response.json({ status: "ok" });
  },
});

export const ready = plainEndpoint({
  method: "get",
  path: "/ready",
  access: "public",
  listener: "both",
  summary: "Whether requests can be served now; 503 says why not",
  responses: { 200: readyAnswer },
  async handle(_, { readiness, memory }) {
    if (readiness.obstacle !== null) throw new NotReadyError(readiness.obstacle);
    const { planBytes, limitBytes, parts } = memory;
    const device = memory.device && { plan_bytes: memory.device.planBytes, parts: memory.device.parts };
    return Response.json({
      status: "ok",
      memory: { plan_bytes: planBytes, limit_bytes: limitBytes, parts, device },
    });
  },
});

export const version = plainEndpoint({
  method: "get",
  path: "/version",
  access: "public",
  listener: "both",
  summary: "The server's version",
  responses: { 200: jsonResponse("The version.", z.object({ version: z.string() })) },
  async handle(_, { packageVersion }) {
    return Response.json({ version: packageVersion });
  },
});

export const metrics = plainEndpoint({
  method: "get",
  path: "/metrics",
  access: "admin",
  listener: "both",
  summary: "Prometheus metrics",
  responses: { 200: { description: "Exposition text.", content: { "text/plain": { schema: z.string() } } } },
  async handle(_, { metrics }) {
    return new Response(await metrics.render(), { headers: { "content-type": metrics.contentType } });
  },
});
