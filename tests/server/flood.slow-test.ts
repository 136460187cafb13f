// A flood of connections against small limits: memory stays within what /ready announced, who is refused hears when
// to come back, and the server is well afterwards.

import assert from "node:assert/strict";
import { Agent, request } from "node:http";
import { test } from "node:test";
import { type ServerChild, startChild } from "./server-child.ts";

const flags = {
  "--max-rows": 8,
  "--max-context": 512,
  "--max-kv-bytes": 16_000_000,
  "--host-cache-bytes": 8_000_000, // two of the six adapters
  "--prefix-cache-bytes": 8_000_000,
  "--max-queue": 200,
  "--max-queue-per-tenant": 200,
  "--max-connections": 2100,
};

type Answer = {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly text: string;
};

function post(server: ServerChild, agent: Agent, body: object): Promise<Answer> {
  const text = JSON.stringify(body);
  const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(text) };
  return new Promise((resolve, reject) => {
    const outgoing = request(
      `${server.url}/v1/completions`,
      { method: "POST", agent, headers },
      (incoming) => {
        let answer = "";
        incoming.setEncoding("utf8").on("data", (part) => {
          answer += part;
        });
        incoming.on("end", () =>
          resolve({ status: incoming.statusCode!, headers: incoming.headers, text: answer }),
        );
        incoming.on("error", reject);
      },
    );
    outgoing.on("error", reject);
    outgoing.end(text);
  });
}

async function json<T>(url: string): Promise<T> {
  return (await (await fetch(url)).json()) as T;
}

test("2,000 connections with streams, then 500 large bodies, within the announced memory", async () => {
  await using server = await startChild(Object.entries(flags).map(([flag, value]) => `${flag}=${value}`));
  const { memory } = await json<{ memory: { plan_bytes: number; parts: Record<string, number> } }>(
    `${server.url}/ready`,
  );
  assert.equal(memory.parts.keys_and_values, flags["--max-kv-bytes"]);
  const { data } = await json<{ data: { id: string }[] }>(`${server.url}/v1/models`);
  const models = data.map(({ id }) => id);
  const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });
  const ask = (index: number, prompt: unknown) =>
    post(server, agent, {
      model: models[index % models.length],
      prompt,
      max_tokens: 8,
      stream: true,
      ignore_eos: true,
    });
  const seen = { served: 0, refused: 0 };
  const count = ({ status, headers, text }: Answer) => {
    if (status === 200) {
      assert.match(text, /"finish_reason":"length".*data: \[DONE\]\n\n$/s);
      seen.served++;
      return;
    }
    if (status === 400) return assert.match(text, /context_length_exceeded/);
    assert.equal(status, 429, text);
    assert.ok(Number(headers["retry-after"]) >= 1);
    seen.refused++;
  };
  const prompt = (index: number) => Array.from({ length: 12 }, (_, at) => 5 + ((index * 31 + at * 7) % 2000));
  const flood = await Promise.all(Array.from({ length: 2000 }, (_, index) => ask(index, prompt(index))));
  for (const answer of flood) count(answer);
  assert.ok(seen.served >= 200, JSON.stringify(seen));
  assert.ok(seen.refused > 0);
  const large = "word ".repeat(100_000);
  const bodies = await Promise.all(Array.from({ length: 500 }, (_, index) => ask(index, large)));
  for (const answer of bodies) count(answer);
  const peakBytes = server.peakBytes();
  assert.ok(peakBytes <= memory.plan_bytes, `${peakBytes} of ${memory.plan_bytes} bytes`);

  assert.equal((await fetch(`${server.url}/ready`)).status, 200);
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  for (const gauge of ["running", "waiting"]) {
    assert.match(metrics, new RegExp(`^vllm:num_requests_${gauge}\\{[^}]*\\} 0$`, "m"));
  }
  for (const [index] of models.entries()) {
    assert.equal((await ask(index, prompt(index))).status, 200);
  }
  agent.destroy();
  console.log(
    `peak ${Math.round(peakBytes / 2 ** 20)} MiB of ${Math.round(memory.plan_bytes / 2 ** 20)} planned`,
    seen,
  );
});
