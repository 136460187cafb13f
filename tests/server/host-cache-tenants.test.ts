// A tenant that floods a small memory with adapters of its own making keeps nobody else's adapters out.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import OpenAI from "openai";
import { AdapterCalls, peftFiles } from "./adapter-forms.ts";
import { tinyDirectory } from "./scripted-app.ts";
import { startTiny } from "./start-tiny.ts";
import { twoTenants } from "./two-tenants.ts";

const adaptersDirectory = join(tinyDirectory, "adapters");
const flood = 40;

test("one tenant's flood of compositions, another's adapter goes on", async (context) => {
  const { keysFile, keys } = await twoTenants(context);
  await using server = await startTiny({
    keysFile,
    adaptersDirectory,
    maxRows: 2,
    hostCacheBytes: 4_800_000,
  });
  const files = peftFiles(join(adaptersDirectory, "orders-json"));
  const uploaded = await new AdapterCalls(server.url, keys.globex.manage).upload({ id: "mine" }, files);
  assert.equal(uploaded.status, 201);
  const clientOf = (apiKey: string) => new OpenAI({ baseURL: `${server.url}/v1`, apiKey, maxRetries: 0 });
  const [acme, globex] = [clientOf(keys.acme.inference), clientOf(keys.globex.inference)];
  const leaving = new AbortController();
  let ended = 0;
  const flooding = Array.from({ length: flood }, async (_, index) => {
    const body = {
      model: "tiny",
      adapters: [{ id: "house-style", weight: 0.5 + index / 1000 }],
      prompt: "Please",
      max_tokens: 60,
      ignore_eos: true,
    };
    await acme.completions.create(body, { signal: leaving.signal });
    ended++;
  });
  while (ended === 0) await Promise.race(flooding);
  for (let request = 0; request < 3; request++) {
    const { usage } = await globex.completions.create({ model: "mine", prompt: "Please", max_tokens: 8 });
    assert.ok(usage!.completion_tokens > 0);
  }
  assert.ok(ended < flood / 2, `${ended} of the other tenant's requests came first`);
  leaving.abort();
  await Promise.allSettled(flooding);
});
