// The co-serving scenario against a server that follows OpenAI's fine-tuning routes and does nothing.

import assert from "node:assert/strict";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { load } from "./load-process-fixture.ts";

const stream = `data: ${JSON.stringify({ choices: [{ text: "a" }] })}\n\ndata: [DONE]\n\n`;

/** Jobs take one look to start; `statuses` is what the looks at the job see. */
async function fakeServer(t: TestContext, statuses: string[]) {
  const seen: string[] = [];
  const routes: Record<string, (response: ServerResponse, body: string) => unknown> = {
    "GET /version": () => ({}),
    "GET /v1/models": () => ({ data: [{ id: "base", max_model_len: 512 }] }),
    "POST /v1/completions": (response, body) => {
      if (!JSON.parse(body).stream) return { usage: { prompt_tokens: 200 } };
      response.end(stream);
      return null;
    },
    "POST /v1/files": (_, body) => {
      assert.match(body, /name="purpose"\s+fine-tune/);
      assert.match(body, /"role":"assistant"/);
      return { id: "file-1" };
    },
    "POST /v1/fine_tuning/jobs": (_, body) => {
      assert.equal(JSON.parse(body).training_file, "file-1");
      return { id: "job-1" };
    },
    "GET /v1/fine_tuning/jobs/job-1": () => ({
      status: statuses.length > 1 ? statuses.shift() : statuses[0],
    }),
    "POST /v1/fine_tuning/jobs/job-1/cancel": () => ({}),
    "DELETE /v1/files/file-1": () => ({}),
  };
  const server = createServer(async (request, response) => {
    const name = `${request.method} ${request.url}`;
    let body = "";
    for await (const chunk of request) body += chunk;
    seen.push(name);
    const answer = routes[name]?.(response, body);
    if (answer === null) return;
    response.statusCode = answer === undefined ? 404 : 200;
    response.end(JSON.stringify(answer ?? {}));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, seen };
}

const flags = ["--scenario", "co-serving", "--duration", "1", "--rate", "30", "--workers", "1"];
const ends = ["POST /v1/fine_tuning/jobs/job-1/cancel", "DELETE /v1/files/file-1"];

test("a job that runs to the end is measured beside, then cancelled", async (t) => {
  const { url, seen } = await fakeServer(t, ["queued", "running"]);
  const { status, output } = await load(...flags, "--url", url);
  assert.equal(status, 0, output);
  const created = seen.indexOf("POST /v1/fine_tuning/jobs");
  assert.ok(seen.indexOf("POST /v1/completions") < created, "measures alone first");
  assert.ok(seen.lastIndexOf("POST /v1/completions") > created, "measures beside the job");
  assert.deepEqual(seen.slice(-2), ends);
});

test("a job that is over before the measurement is fails the run, and is cleaned up", async (t) => {
  const { url, seen } = await fakeServer(t, ["running", "succeeded"]);
  const { status, output } = await load(...flags, "--url", url);
  assert.equal(status, 1, output);
  assert.deepEqual(seen.slice(-2), ends);
});

test("a job that does not start fails the run, and is cleaned up", async (t) => {
  const { url, seen } = await fakeServer(t, ["failed"]);
  const { status, output } = await load(...flags, "--url", url);
  assert.equal(status, 1, output);
  assert.deepEqual(seen.slice(-2), ends);
});
