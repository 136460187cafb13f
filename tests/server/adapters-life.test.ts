// The life of adapters under requests, on the embedded base, the real engine and the real store: versions, aliases,
// deletion, pins, expiry, and that every request is counted once.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import OpenAI from "openai";
import { until } from "../until.ts";
import { AdapterScene, longTokens, orders, style, tickets } from "./adapter-scene.ts";

type Versions = { readonly data: readonly { readonly version: string; readonly is_current: boolean }[] };

suite("adapters under requests", () => {
  let scene: AdapterScene;

  before(async () => {
    scene = await AdapterScene.open();
  });

  after(() => scene.close());

  test("the same upload again is the same version; another moves the id, and versions tell both", async () => {
    const first = await scene.upload("moving", orders);
    assert.equal((await scene.upload("moving", orders)).version, first.version);
    const second = await scene.upload("moving", tickets, { alias: "moving-too" });
    assert.equal(await scene.ask("moving"), scene.texts.get("ticket-router"));
    assert.equal(await scene.ask("moving-too"), scene.texts.get("ticket-router"));
    const { body } = await scene.calls.call<Versions>("GET", "/v1/adapters/moving/versions");
    assert.deepEqual(
      body.data.map(({ version, is_current }) => [version, is_current]),
      [
        [second.version, true],
        [first.version, false],
      ],
    );
    const back = await scene.calls.call("POST", "/v1/adapters/moving/alias", { version: first.version });
    assert.equal(back.body.version, first.version);
    assert.equal(await scene.ask("moving"), scene.texts.get("orders-json"));
    assert.equal(await scene.ask("moving-too"), scene.texts.get("ticket-router"));
    const named = await scene.calls.call("POST", "/v1/adapters/moving/alias", {
      name: "moving-old",
      version: second.version,
    });
    assert.deepEqual([named.body.id, named.body.version], ["moving-old", second.version]);
    const unknown = await scene.calls.call("POST", "/v1/adapters/moving/alias", { version: "0".repeat(64) });
    assert.deepEqual([unknown.status, unknown.body.error?.code], [404, "adapter_version_unknown"]);
    assert.equal((await scene.calls.call("POST", "/v1/adapters/moving/alias", {})).status, 400);
    assert.equal(
      (await scene.calls.call("POST", "/v1/adapters/moving/alias", { alias: "tiny" })).status,
      409,
    );
  });

  test("a stream keeps the version that it began with while its name moves", async () => {
    const alone = await scene.ask("original-orders-json", longTokens);
    await scene.upload("swapped", orders);
    const running = await scene.stream("swapped");
    await scene.upload("swapped", tickets);
    assert.equal(await scene.ask("swapped"), scene.texts.get("ticket-router"));
    assert.equal(await running.rest(), alone);
  });

  test("deleting is refused while requests use the adapter; forced, they end on it and its files go", async () => {
    const { version } = await scene.upload("leaving", style);
    const alone = await scene.ask("leaving", longTokens);
    const stored = () =>
      readdirSync(join(scene.server.dataDirectory, "adapters", "versions")).includes(version);
    const running = await scene.stream("leaving");
    const { body: described } = await scene.calls.get("leaving");
    assert.equal(described.residency.uses!.leases, 1);
    await until(async () => (await scene.calls.get("leaving")).body.residency.tier === "device");
    const refused = await scene.calls.call("DELETE", "/v1/adapters/leaving");
    assert.deepEqual([refused.status, refused.body.error?.code], [409, "adapter_in_use"]);
    const forced = await scene.calls.call<object>("DELETE", "/v1/adapters/leaving?force=true");
    assert.deepEqual(forced.body, { id: "leaving", object: "adapter", deleted: true });
    assert.equal((await scene.calls.get("leaving")).status, 404);
    await assert.rejects(scene.ask("leaving"), OpenAI.NotFoundError);
    assert.ok(stored());
    assert.equal(await running.rest(), alone);
    await until(() => !stored());
    assert.equal((await scene.calls.call("DELETE", "/v1/adapters/leaving")).status, 404);
    await scene.upload("leaving", style); // and it may come back
    assert.equal(await scene.ask("leaving", longTokens), alone);
    assert.equal((await scene.calls.call("DELETE", "/v1/adapters/leaving")).status, 200);
    await until(() => !stored());
  });

  test("a forced deletion that is followed by the same upload loses nothing", async () => {
    const { version } = await scene.upload("again", style);
    const running = await scene.stream("again");
    assert.equal((await scene.calls.call("DELETE", "/v1/adapters/again?force")).status, 200);
    assert.equal((await scene.upload("again", style)).version, version);
    await running.rest();
    await delay(50);
    assert.ok((await scene.ask("again")).length > 0);
    assert.equal((await scene.calls.call("DELETE", "/v1/adapters/again?force=1")).status, 200);
  });

  test("a version leaves a history, but not while it is the current one", async () => {
    const old = await scene.upload("pruned", style);
    const current = await scene.upload("pruned", tickets);
    const path = (version: string) => `/v1/adapters/pruned/versions/${version}`;
    const refused = await scene.calls.call("DELETE", path(current.version));
    assert.deepEqual([refused.status, refused.body.error?.code], [409, "adapter_version_current"]);
    assert.equal((await scene.calls.call("DELETE", path("nothing"))).status, 404);
    const gone = await scene.calls.call<object>("DELETE", path(old.version));
    assert.deepEqual(gone.body, {
      id: "pruned",
      object: "adapter.version",
      version: old.version,
      deleted: true,
    });
    assert.equal((await scene.calls.call("DELETE", path(old.version))).status, 404);
  });

  test("pinned is resident, and says so", async () => {
    await scene.upload("pinned", style, { pin: "true" });
    assert.deepEqual(
      [
        (await scene.calls.get("pinned")).body.pinned,
        (await scene.metric("cotenant_adapter_pinned_bytes")) > 0,
      ],
      [true, true],
    );
    const loaded =
      'vllm:lora_adapter_loaded{model_name="tiny",adapter_name="pinned",level="cpu",pinned="true"} 1';
    assert.ok((await scene.exposition()).includes(loaded));
    const moved = await scene.upload("pinned", tickets); // the pin follows the name
    assert.equal(moved.pinned, true);
    const unpinned = await scene.calls.call("POST", "/v1/adapters/pinned/unpin");
    assert.equal(unpinned.body.pinned, false);
    assert.equal(await scene.metric("cotenant_adapter_pinned_bytes"), 0);
    assert.equal((await scene.calls.call("POST", "/v1/adapters/pinned/pin")).body.pinned, true);
    assert.equal((await scene.calls.call("POST", "/v1/adapters/pinned/unpin")).body.pinned, false);
    assert.equal((await scene.calls.call("POST", "/v1/adapters/nobody/pin")).status, 404);
    const { body } = await scene.calls.call<object>("POST", "/v1/adapters/pinned/prefetch");
    assert.deepEqual(body, { id: "pinned", object: "adapter.prefetch", loaded: true });
  });

  test("an adapter goes when its time is over, its alias stays", async () => {
    const sentSeconds = Date.now() / 1000;
    const { expires_at } = await scene.upload("brief", tickets, { ttl_seconds: "1", alias: "lasting" });
    assert.ok(expires_at! > sentSeconds && expires_at! < Date.now() / 1000 + 2);
    assert.equal(await scene.ask("brief"), scene.texts.get("ticket-router"));
    await until(async () => (await scene.calls.get("brief")).status === 404);
    await assert.rejects(scene.ask("brief"), OpenAI.NotFoundError);
    assert.equal(await scene.ask("lasting"), scene.texts.get("ticket-router"));
  });

  test("every choice that was submitted has ended in one way", async () => {
    const long = { model: "tiny", prompt: "x", max_tokens: 900, ignore_eos: true };
    await assert.rejects(scene.server.client.completions.create(long, { timeout: 20 }));
    const late = { ...long, timeout_ms: 1 };
    await assert.rejects(scene.server.client.completions.create(late), { code: "request_timed_out" });
    await until(async () => {
      const [submitted, ended, refused] = await Promise.all([
        scene.metric("cotenant_requests_submitted_total"),
        scene.metric("vllm:request_success_total"),
        scene.metric("cotenant_requests_refused_total"),
      ]);
      return refused === 1 && submitted > 1 && submitted === ended + refused;
    });
    for (const tier of ["host", "device"]) {
      const labels = `{model_name="tiny",tier="${tier}"}`;
      const loads = await scene.metric(`cotenant_adapter_loads_total${labels}`);
      assert.ok(loads >= 3, tier);
      assert.equal(await scene.metric(`cotenant_adapter_load_seconds_count${labels}`), loads);
    }
  });
});
