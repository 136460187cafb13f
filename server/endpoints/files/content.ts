// GET /v1/files/{id}/content: the file's bytes as they were sent.

import { z } from "@hono/zod-openapi";
import { plainEndpoint } from "../endpoint.ts";

export const fileContent = plainEndpoint({
  method: "get",
  path: "/v1/files/{id}/content",
  access: "manage",
  listener: "main",
  summary: "Read a file back",
  request: { params: z.object({ id: z.string() }) },
  responses: {
    200: {
      description: "The bytes.",
      content: { "application/octet-stream": { schema: z.string().openapi({ format: "binary" }) } },
    },
  },
  async handle({ parameter, tenant, signal }, context) {
    const { trainingFiles } = context.readiness.serving;
    const file = trainingFiles.get(tenant.id, parameter("id"));
    const content = (await trainingFiles.openContent(file)).createReadStream();
    // A client that is gone before it reads anything never gets to the end of the content.
    signal.addEventListener("abort", () => content.destroy(), { once: true });
    if (signal.aborted) content.destroy();
    return new Response(ReadableStream.from(content), {
      headers: {
        "content-type": "application/octet-stream",
        "content-length": String(file.bytes),
        "content-disposition": `attachment; filename*=UTF-8''${encodeURIComponent(file.filename)}`,
      },
    });
  },
});
