// The generator as a person runs it, against the embedded model, and against a server that misbehaves.

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { startTiny } from "../../tests/server/start-tiny.ts";
import { HttpClient } from "./http-client.ts";
import { load } from "./load-process-fixture.ts";
import { sendRequest } from "./send-request.ts";

const demoAdapters = fileURLToPath(new URL("../../models/tiny/adapters", import.meta.url));

test("three steady seconds on the embedded model pass and are reported", async () => {
  await using server = await startTiny({ adaptersDirectory: demoAdapters });
  const folder = await mkdtemp(join(tmpdir(), "cotenant-load-test-"));
  const [json, html] = [join(folder, "report.json"), join(folder, "report.html")];
  try {
    const { status, output } = await load(
      ...["--url", server.url, "--scenario", "steady", "--duration", "3", "--rate", "5", "--vllm-fields"],
      ...[
        "--output-tokens",
        "8:0",
        "--prompt-tokens",
        "20:0",
        "--workers",
        "2",
        "--json",
        json,
        "--html",
        html,
      ],
    );
    assert.equal(status, 0, output);
    const report = JSON.parse(await readFile(json, "utf8"));
    const { figures, adapters, client } = report.phases[0];
    assert.equal(report.passed, true);
    assert.ok(figures.finished >= 5, `${figures.finished} finished`);
    assert.equal(figures.finished, figures.requests);
    assert.ok(figures.ttftMs.p50 > 0 && figures.endToEndMs.p50 >= figures.ttftMs.p50);
    assert.ok(adapters.every(({ name }: { name: string }) => server.adapters.includes(name)));
    assert.equal(client.workers, 2);
    const page = await readFile(html, "utf8");
    assert.ok(page.includes("<svg") && page.includes(report.header.commit));
    assert.doesNotMatch(page, /<script|<link|src=|NaN/); // opens offline, and has drawn numbers
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("a server that is not there is an error with its address", async () => {
  const { status, output } = await load("--url", "http://127.0.0.1:1", "--scenario", "steady");
  assert.equal(status, 2);
  assert.match(output, /http:\/\/127\.0\.0\.1:1 cannot be measured: .*ECONNREFUSED/);
});

test("a server that has nothing but OpenAI's list and chats can be measured", async (t) => {
  const piece = (delta: object) => `data: ${JSON.stringify({ choices: [{ index: 0, delta }] })}\n\n`;
  const server = createServer(async (request, response) => {
    const route = `${request.method} ${request.url}`;
    if (route === "GET /v1/models") return response.end('{ "object": "list", "data": [{ "id": "m" }] }');
    if (route !== "POST /v1/chat/completions") return response.writeHead(404).end("Not Found");
    const { stream, messages } = JSON.parse(await text(request));
    const promptTokens = messages[0].content.split(" ").length;
    if (!stream) return response.end(JSON.stringify({ usage: { prompt_tokens: promptTokens } }));
    const pieces = [{ role: "assistant", content: "" }, { content: "a" }, { content: "b" }, {}];
    return response.end(`${pieces.map(piece).join("")}data: [DONE]\n\n`);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const flags = ["--scenario", "steady", "--endpoint", "chat", "--duration", "1", "--rate", "30"];
  const { status, output } = await load("--url", url, ...flags, "--workers", "1");
  assert.equal(status, 0, output);
  assert.match(output, /no max_model_len .*assuming 2048/);
  assert.match(output, /time to first token +p50 \d/);
});

const answers: Record<string, { status: number; body: string; outcome: string; error: string | null }> = {
  finished: {
    status: 200,
    body: 'data: {"choices":[{"text":"a"}]}\n\ndata: {"choices":[{"text":""}]}\n\ndata: [DONE]\n\n',
    outcome: "finished",
    error: null,
  },
  "broken off": {
    status: 200,
    body: 'data: {"choices":[{"text":"a"}]}\n\n',
    outcome: "failed",
    error: "stream broke off",
  },
  "failed on the way": {
    status: 200,
    body: 'data: {"choices":[{"text":"a"}]}\n\ndata: {"error":{"code":"engine_lost"}}\n\ndata: [DONE]\n\n',
    outcome: "failed",
    error: "stream error engine_lost",
  },
  refused: {
    status: 429,
    body: '{"error":{"code":"rate_limit_exceeded"}}',
    outcome: "failed",
    error: "429 rate_limit_exceeded",
  },
};

test("every end of a stream has its outcome", async (t) => {
  const server = createServer((request, response) => {
    const { status, body } = answers[decodeURIComponent(request.headers.authorization!.slice(7))]!;
    response.writeHead(status).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  await using client = new HttpClient(`http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`);
  for (const [name, { outcome, error }] of Object.entries(answers)) {
    const record = await sendRequest(
      { model: "m", promptTokens: 3, outputTokens: 1, seed: 1, cancelAfterMs: null },
      { tenant: "t", key: encodeURIComponent(name), stream: 0, dueMs: 0 },
      {
        client,
        shape: { endpoint: "completions", vllmFields: false, tokensPerWord: 1 },
        nowMs: () => performance.now(),
        signal: new AbortController().signal,
        onChunk: () => undefined,
      },
    );
    assert.deepEqual([record.outcome, record.error], [outcome, error], name);
    assert.equal(record.chunkMs.length, name === "refused" ? 0 : 1, name);
  }
});
