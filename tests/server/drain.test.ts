// The end of a server process, by signal and by engines that die: what becomes of streams, probes and exit status.

import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { until } from "../until.ts";
import { readEvents } from "./scripted-app.ts";
import { type ServerChild, startChild } from "./server-child.ts";

function post(server: ServerChild, body: object): Promise<Response> {
  return fetch(`${server.url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: "cotenant-tiny", prompt: "Hello", ignore_eos: true, ...body }),
  });
}

type Chunk = { readonly choices: { readonly text: string; readonly finish_reason: string | null }[] };
type Failure = { readonly error: { readonly code: string } };

const startStream = (server: ServerChild, maxTokens: number) =>
  post(server, { max_tokens: maxTokens, stream: true });

/** fetch leaves a header out that ends the connection. */
async function isDown(server: ServerChild, path: string): Promise<boolean> {
  return (await fetch(`${server.url}${path}`)).status === 503;
}

test("SIGTERM: not ready at once, new work is refused, what has begun is finished, status 0", async () => {
  await using server = await startChild(["--drain-seconds", "30"]);
  const streams = await Promise.all(Array.from({ length: 24 }, () => startStream(server, 200)));
  server.process.kill("SIGTERM");
  await until(() => isDown(server, "/ready"));
  const refused = await post(server, { max_tokens: 1 });
  assert.equal(refused.status, 503);
  assert.equal(refused.headers.get("connection"), "close");
  assert.ok(Number(refused.headers.get("retry-after")) >= 1);
  assert.equal(((await refused.json()) as Failure).error.code, "not_ready");
  assert.equal((await fetch(`${server.url}/health`)).status, 200);
  for (const stream of streams) {
    const events = (await readEvents(stream)) as (Chunk | "[DONE]")[];
    assert.equal(events.at(-1), "[DONE]");
    const reasons = events
      .flatMap((event) => (event === "[DONE]" ? [] : event.choices))
      .map((one) => one.finish_reason);
    assert.equal(reasons.filter((reason) => reason === "length").length, 1);
  }
  assert.equal(await server.exited, 0);
});

test("what is left at the deadline ends with an error, and the status is 0", async () => {
  await using server = await startChild(["--drain-seconds", "1", "--max-rows", "4"]);
  const running = await Promise.all(Array.from({ length: 4 }, () => startStream(server, 1000)));
  const waiting = Array.from({ length: 60 }, () => startStream(server, 1000));
  const endOf = async (answer: Response) => {
    if (answer.status === 503) return `before it began: ${((await answer.json()) as Failure).error.code}`;
    const events = await readEvents(answer);
    assert.equal(events.at(-1), "[DONE]");
    const end = events.at(-2) as Chunk | Failure;
    return "error" in end ? end.error.code : "whole";
  };
  const ends = Promise.all([...running.map(endOf), ...waiting.map(async (answer) => endOf(await answer))]);
  await until(async () =>
    /num_requests_waiting.* 60$/m.test(await (await fetch(`${server.url}/metrics`)).text()),
  );
  server.process.kill("SIGTERM");
  assert.equal(await server.exited, 0);
  const kinds = new Set(await ends);
  kinds.delete("whole"); // a fast machine may end some in time
  assert.deepEqual([...kinds].sort(), ["before it began: server_closing", "server_closing"]);
});

for (const [signal, status] of [
  ["SIGTERM", 143],
  ["SIGINT", 130],
] as const) {
  test(`a second ${signal} ends it now with status ${status}`, async () => {
    await using server = await startChild(["--max-rows", "2"]);
    const streams = await Promise.all(Array.from({ length: 2 }, () => startStream(server, 1000)));
    for (let more = 0; more < 60; more++) startStream(server, 1000).catch(() => {});
    const cut = Promise.all(
      streams.map((stream) =>
        stream.text().then(
          () => "whole",
          () => "cut",
        ),
      ),
    );
    server.process.kill(signal);
    await until(() => isDown(server, "/ready"));
    server.process.kill(signal);
    assert.equal(await server.exited, status);
    await cut;
  });
}

test("a server whose engines die again and again says what to do and ends with status 1", async () => {
  const preload = fileURLToPath(new URL("kill-engine-on-signal.ts", import.meta.url));
  await using server = await startChild([], ["--import", preload]);
  let isOver = false;
  const ended = server.exited.finally(() => {
    isOver = true;
  });
  while (!isOver) {
    const isReady = await fetch(`${server.url}/ready`).then(
      ({ status }) => status === 200,
      () => false, // it is gone
    );
    if (isReady) server.process.kill("SIGUSR2");
    await new Promise((wake) => setTimeout(wake, 20));
  }
  assert.equal(await ended, 1);
  assert.match(server.errors(), /the engine failed 5 times within 300 s.*\[engine_gave_up\]/);
});
