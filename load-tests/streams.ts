// npm run streams: as many streams at once as asked for, spread over the base and all adapters of a running server.
// Prints tokens per second as the client sees them and the HTTP thread's event-loop delay meanwhile, which must stay
// under 20 ms at its 99th percentile; exits 1 where it does not.

import { parseArgs } from "node:util";

const mostDelayMs = 20;
const { values } = parseArgs({
  options: {
    url: { type: "string", default: "http://127.0.0.1:8000" },
    streams: { type: "string", default: "16" },
    tokens: { type: "string", default: "300" },
  },
});
const streams = Number(values.streams);
const tokens = Number(values.tokens);

const { data } = (await (await fetch(`${values.url}/v1/models`)).json()) as { data: { id: string }[] };
await eventLoopDelayMs(); // a scrape starts the window that the next one reports
const start = performance.now();
const received = await Promise.all(
  Array.from({ length: streams }, (_, index) => stream(data[index % data.length]!.id)),
);
const seconds = (performance.now() - start) / 1000;
const delayMs = await eventLoopDelayMs();
const chunks = received.reduce((sum, count) => sum + count, 0);
console.log(
  JSON.stringify({
    bench: "streams",
    streams,
    chunksPerSecond: Math.round(chunks / seconds),
    eventLoopDelayP99Ms: Number(delayMs.toFixed(1)),
    limitMs: mostDelayMs,
  }),
);
if (delayMs >= mostDelayMs) process.exit(1);

/** Reads one streamed completion to its end; returns how many chunks it had. */
async function stream(model: string): Promise<number> {
  const response = await fetch(`${values.url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      model,
      prompt: "Tell a story.",
      max_tokens: tokens,
      ignore_eos: true,
      stream: true,
      seed: 1,
    }),
  });
  if (!response.ok || response.body === null)
    throw new Error(`HTTP ${response.status}: ${await response.text()}`);
  let text = "";
  for await (const bytes of response.body) text += Buffer.from(bytes).toString();
  if (!text.includes("[DONE]")) throw new Error(`the stream of ${model} broke off`);
  return text.split("data: ").length - 2;
}

async function eventLoopDelayMs(): Promise<number> {
  const metrics = await (await fetch(`${values.url}/metrics`)).text();
  const line = /^cotenant_event_loop_delay_p99_seconds (\S+)$/m.exec(metrics);
  if (line === null) throw new Error("the server has no event-loop delay among its metrics");
  return Number(line[1]) * 1000;
}
