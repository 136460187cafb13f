// Tenants on the real engine: what a restart keeps, and both listeners.

import assert from "node:assert/strict";
import { openAsBlob } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import OpenAI from "openai";
import { tinyDirectory } from "./scripted-app.ts";
import { all, startTiny } from "./start-tiny.ts";
import { twoTenants } from "./two-tenants.ts";

const demos = join(tinyDirectory, "adapters");

async function upload(client: OpenAI, id: string, demo: string): Promise<void> {
  const form = new FormData();
  form.append("id", id);
  for (const name of ["adapter_config.json", "adapter_model.safetensors"]) {
    form.append("files", await openAsBlob(join(demos, demo, name)), name);
  }
  await client.post("/adapters", { body: form });
}

test("two tenants' adapters of one id, usage and quotas outlive a restart", async (context) => {
  const dataDirectory = await mkdtemp(join(tmpdir(), "cotenant-tenants-data-"));
  context.after(() => rm(dataDirectory, { recursive: true }));
  const { keysFile, keys } = await twoTenants(context, { tokensPerDay: 60, adapters: 1 });
  const start = () => startTiny({ keysFile, dataDirectory, admin: { host: "127.0.0.1", port: 0 } });
  const clientsOf = (url: string) => {
    const [acme, globex] = [keys.acme.manage, keys.globex.manage].map(
      (apiKey) => new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 }),
    );
    return { acme: acme!, globex: globex! };
  };
  const body = { model: "mine", prompt: "Please", max_tokens: 24, ignore_eos: true, temperature: 0 };
  const textOf = async (client: OpenAI) => (await client.completions.create(body)).choices[0]!.text;
  const idsOf = async (client: OpenAI) => (await all(client.models.list())).map(({ id }) => id);
  const before: string[] = [];
  {
    await using server = await start();
    const { acme, globex } = clientsOf(server.url);
    await upload(acme, "mine", "orders-json");
    await upload(globex, "mine", "ticket-router");
    await upload(globex, "second", "orders-json");
    await assert.rejects(upload(acme, "second", "ticket-router"), OpenAI.PermissionDeniedError);
    before.push(await textOf(acme), await textOf(globex));
    assert.notEqual(before[0], before[1]);
    await assert.rejects(acme.models.retrieve("second"), OpenAI.NotFoundError);
    assert.equal((await fetch(`${server.url}/metrics`)).status, 401);
    const scrape = (key: string) => ({ headers: { authorization: `Bearer ${key}` } });
    assert.equal((await fetch(`${server.adminUrl}/metrics`, scrape(keys.acme.manage))).status, 403);
    const metrics = await fetch(`${server.adminUrl}/metrics`, scrape(keys.acme.admin));
    assert.match(await metrics.text(), /cotenant_adapters_registered\{[^}]*\} 3/);
    assert.equal((await fetch(`${server.adminUrl}/health`)).status, 200);
    assert.equal((await fetch(`${server.adminUrl}/v1/models`, scrape(keys.acme.admin))).status, 404);
  }
  await using server = await start();
  const { acme, globex } = clientsOf(server.url);
  assert.deepEqual(await idsOf(acme), ["tiny", "mine"]);
  assert.deepEqual(await idsOf(globex), ["tiny", "mine", "second"]);
  assert.deepEqual([await textOf(acme), await textOf(globex)], before);
  await assert.rejects(textOf(acme), OpenAI.RateLimitError); // of the day's tokens most went before the restart
  const day = 86_400;
  const [bucket] = (
    await acme.get<OpenAI.Admin.Organization.Usage.UsageCompletionsResponse>("/usage", {
      query: { start_time: Math.floor(Date.now() / 1000 / day) * day },
    })
  ).data;
  assert.equal((bucket!.results[0] as { num_model_requests: number }).num_model_requests, 2);
});
