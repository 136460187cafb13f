// Jobs of two tenants at once, through the API: each tenant's steps come in proportion to its weight, however many jobs
// it has. That turns are fair to the unit is finetuning/trainer.test.ts' business.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import OpenAI from "openai";
import { chatLines, smallMethod, untilJob, uploadLines } from "./fine-tuning-scene.ts";
import { startTiny } from "./start-tiny.ts";
import { twoTenants } from "./two-tenants.ts";

test("tenants train in proportion to their weights, whoever has more jobs", async (context) => {
  const { keysFile, keys } = await twoTenants(context); // acme's weight is 2
  await using server = await startTiny({ keysFile });
  const clientOf = (apiKey: string) => new OpenAI({ baseURL: `${server.url}/v1`, apiKey, maxRetries: 0 });
  const [acme, globex] = [clientOf(keys.acme.manage), clientOf(keys.globex.manage)];
  const method = {
    ...smallMethod,
    supervised: { hyperparameters: { n_epochs: 1000, batch_size: 4, checkpoint_steps: 10_000 } as object },
  };
  const start = async (client: OpenAI) => {
    const training_file = await uploadLines(client, chatLines("ticket-router", 8));
    const { id } = await client.fineTuning.jobs.create({ model: "tiny", training_file, method });
    return { client, id };
  };
  const jobs = [await start(acme), await start(globex), await start(globex)];
  for (const { client, id } of jobs) await untilJob(client, id, ({ trained_tokens }) => trained_tokens! > 0);
  const tokens = () =>
    Promise.all(
      jobs.map(async ({ client, id }) => (await client.fineTuning.jobs.retrieve(id)).trained_tokens!),
    );
  const before = await tokens();
  for (;;) {
    const [ofAcme, one, other] = (await tokens()).map((now, index) => now - before[index]!);
    if (ofAcme! < 32 * 250) {
      await delay(100); // until some thirty steps
      continue;
    }
    const ratio = ofAcme! / (one! + other!);
    assert.ok(ratio > 1.6 && ratio < 2.5, `${ofAcme} tokens, and ${one} and ${other}`);
    assert.ok(one! / other! > 0.7 && one! / other! < 1.4, `${one} and ${other}`);
    break;
  }
  for (const { client, id } of jobs) await client.fineTuning.jobs.cancel(id);
});
