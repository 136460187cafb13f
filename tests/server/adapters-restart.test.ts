// What a restart keeps of adapters: names, versions, aliases, settings and pins; and what is gone stays gone.

import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { AdapterCalls, type Described, peftFiles } from "./adapter-forms.ts";
import { tinyDirectory } from "./scripted-app.ts";
import { startTiny } from "./start-tiny.ts";

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
  const deadlineMs = performance.now() + 10_000;
  while ((await described(calls, "team/pinned")).residency.tier !== "host") {
    assert.ok(performance.now() < deadlineMs, "what was pinned is not read");
    await delay(20);
  }
  assert.equal((await described(calls, "alias")).residency.tier, "store");
  while ((await calls.get("over")).status !== 404) {
    assert.ok(performance.now() < deadlineMs, "what is over is still there");
    await delay(20);
  }
  assert.equal((await calls.get("gone")).status, 404);
  const named = new Set([...before.values()].map(({ version }) => version));
  const stored = async () => await readdir(join(dataDirectory, "adapters", "versions"));
  while ((await stored()).length > named.size + 1) await delay(20); // and kept's former version
});
