// What a restart keeps of adapters: names, versions, aliases, settings and pins; and what is gone stays gone.

import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { until } from "../until.ts";
import { AdapterCalls, type Described, peftFiles } from "./adapter-forms.ts";
import { tinyDirectory } from "./scripted-app.ts";
import { startTiny } from "./start-tiny.ts";
import { twoTenants } from "./two-tenants.ts";

const filesOf = (demo: string) => peftFiles(join(tinyDirectory, "adapters", demo));

async function described(calls: AdapterCalls, id: string): Promise<Described> {
  const { status, body } = await calls.get(id);
  assert.equal(status, 200, id);
  return body;
}

test("names, versions and pins outlive a restart, and pinned versions are read at the start", async (context) => {
  const dataDirectory = await mkdtemp(join(tmpdir(), "cotenant-adapters-data-"));
  context.after(() => rm(dataDirectory, { recursive: true, force: true }));
  const before = new Map<string, Described>();
  const ids = ["kept", "team/pinned", "alias"];
  {
    await using server = await startTiny({ dataDirectory });
    const calls = new AdapterCalls(server.url);
    await calls.upload({ id: "kept", metadata: '{"a":"b"}' }, filesOf("orders-json"));
    await calls.upload({ id: "kept", alias: "alias", ttl_seconds: "3600" }, filesOf("ticket-router"));
    await calls.upload({ id: "team/pinned", pin: "true" }, filesOf("house-style"));
    await calls.upload({ id: "gone" }, filesOf("review-scores"));
    await calls.upload({ id: "over", ttl_seconds: "1" }, filesOf("redact-names"));
    assert.equal((await calls.call("DELETE", "/v1/adapters/gone")).status, 200);
    for (const id of ids) before.set(id, await described(calls, id));
  }
  await delay(1000);
  await using server = await startTiny({ dataDirectory });
  const calls = new AdapterCalls(server.url);
  for (const id of ids) {
    const { residency: _, ...rest } = await described(calls, id);
    const { residency: __, ...same } = before.get(id)!;
    assert.deepEqual(rest, same);
  }
  const { body } = await calls.call<{ data: object[] }>("GET", "/v1/adapters/kept/versions");
  assert.equal(body.data.length, 2);
  await until(async () => (await described(calls, "team/pinned")).residency.tier === "host");
  assert.equal((await described(calls, "alias")).residency.tier, "store");
  await until(async () => (await calls.get("over")).status === 404);
  assert.equal((await calls.get("gone")).status, 404);
  const named = new Set([...before.values()].map(({ version }) => version));
  const stored = async () => await readdir(join(dataDirectory, "adapters", "versions"));
  await until(async () => (await stored()).length <= named.size + 1); // and kept's former version
});

test("files as they came are for the tenant who sent them, also after a restart", async (context) => {
  const dataDirectory = await mkdtemp(join(tmpdir(), "cotenant-adapters-data-"));
  context.after(() => rm(dataDirectory, { recursive: true, force: true }));
  const { keysFile, keys } = await twoTenants(context);
  const secret = "/home/acme/secret-project";
  const saying = (base: string) =>
    filesOf("orders-json").map(({ name, content }) => {
      if (!name.endsWith("json")) return { name, content };
      const config = { ...JSON.parse(String(content)), base_model_name_or_path: base };
      return { name, content: Buffer.from(JSON.stringify(config)) };
    });
  const download = async (calls: AdapterCalls, id: string) => {
    const response = await calls.fetch("GET", `/v1/adapters/${id}/download?format=peft`);
    assert.equal(response.status, 200);
    return Buffer.from(await response.arrayBuffer()).toString("latin1");
  };
  for (const run of ["before", "after"]) {
    await using server = await startTiny({ dataDirectory, keysFile });
    const acme = new AdapterCalls(server.url, keys.acme.manage);
    const globex = new AdapterCalls(server.url, keys.globex.manage);
    if (run === "before") {
      const first = await acme.upload({ id: "a" }, saying(secret));
      const same = await globex.upload({ id: "b" }, saying("models/tiny"));
      assert.equal(first.body.version, same.body.version);
      assert.ok((await download(acme, "a")).includes(secret));
      assert.equal((await acme.call("DELETE", "/v1/adapters/a")).status, 200);
    }
    const files = await download(globex, "b");
    assert.ok(files.includes("lora_alpha") && !files.includes(secret), run);
  }
});
