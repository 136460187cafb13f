// A `cotenant serve` process as a person would start it, for the checks of packages and images: started, asked
// through HTTP, stopped by its pid.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { z } from "zod";

export type ServerCommand = {
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly environment: NodeJS.ProcessEnv;
};

const readyLimitMs = 120_000;
const stopLimitMs = 20_000;
const endingSignals = ["SIGTERM", "SIGINT", "SIGHUP"] as const;

/** Runs `use` while the server is up; then SIGTERM, and an exit status of 0 is required. It never outlives this process. */
export async function withServer(start: ServerCommand, use: (url: string) => Promise<void>): Promise<void> {
  const child = spawn(start.command, start.args, {
    cwd: start.cwd,
    env: start.environment,
    stdio: ["ignore", "ignore", "pipe"],
  });
  const exited = once(child, "exit");
  const endBoth = () => {
    child.kill("SIGKILL");
    process.exit(1);
  };
  for (const signal of endingSignals) process.once(signal, endBoth);
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    errors += text;
  });
  try {
    const url = await urlInWelcome(
      () => errors,
      () => child.exitCode,
    );
    await use(url);
    child.kill("SIGTERM");
    const overdue = setTimeout(() => child.kill("SIGKILL"), stopLimitMs);
    const [status] = await exited;
    clearTimeout(overdue);
    assert.equal(status, 0, `SIGTERM did not end the server cleanly:\n${errors}`);
  } finally {
    child.kill("SIGKILL");
    for (const signal of endingSignals) process.removeListener(signal, endBoth);
  }
}

async function urlInWelcome(errors: () => string, exitCode: () => number | null): Promise<string> {
  const deadline = performance.now() + readyLimitMs;
  while (performance.now() < deadline) {
    const url = / on (http:\/\/\S+)/.exec(errors())?.[1];
    if (url !== undefined) return url;
    if (exitCode() !== null) break;
    await new Promise((wake) => setTimeout(wake, 100));
  }
  throw new Error(`the server did not become ready:\n${errors()}`);
}

const modelsSchema = z.object({ data: z.array(z.object({ id: z.string(), parent: z.string().nullish() })) });
const completionSchema = z.object({ usage: z.object({ completion_tokens: z.int().positive() }) });

/** /ready, and one completion by a demo adapter; a server without keys takes any. */
export async function askServer(url: string, key = "none"): Promise<void> {
  const authorization = `Bearer ${key}`;
  const ready = await fetch(`${url}/ready`);
  assert.equal(ready.status, 200, await ready.text());
  const models = modelsSchema.parse(
    await (await fetch(`${url}/v1/models`, { headers: { authorization } })).json(),
  );
  const adapter = models.data.find((model) => model.parent);
  assert.ok(adapter, "no demo adapter is served");
  const completion = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { authorization, "content-type": "application/json" },
    body: JSON.stringify({ model: adapter.id, prompt: "Hello", max_tokens: 8, ignore_eos: true }),
  });
  assert.equal(completion.status, 200, await completion.clone().text());
  completionSchema.parse(await completion.json());
}
