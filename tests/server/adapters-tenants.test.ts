// Adapters of two tenants and of the operator, on the real engine and the real store.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import OpenAI from "openai";
import { AdapterCalls, peftFiles } from "./adapter-forms.ts";
import { tinyDirectory } from "./scripted-app.ts";
import { startTiny } from "./start-tiny.ts";
import { twoTenants } from "./two-tenants.ts";

const adaptersDirectory = join(tinyDirectory, "adapters");
const filesOf = (demo: string) => peftFiles(join(adaptersDirectory, demo));

test("tenants share a version without telling each other, and the operator's adapters are the operator's", async (context) => {
  const { keysFile, keys } = await twoTenants(context, { adapters: 3 });
  await using server = await startTiny({ keysFile, adaptersDirectory, hostCacheBytes: 2 ** 22 });
  const callsOf = (key: string) => new AdapterCalls(server.url, key);
  const acme = callsOf(keys.acme.manage);
  const globex = callsOf(keys.globex.manage);
  const ask = (apiKey: string, model: string) =>
    new OpenAI({ baseURL: `${server.url}/v1`, apiKey, maxRetries: 0 }).completions.create({
      model,
      prompt: "Please",
      max_tokens: 4,
    });

  await context.test("what is counted of a version is told to its only owner", async () => {
    const custom = filesOf("orders-json").map(({ name, content }) =>
      name.endsWith("json")
        ? { name, content: Buffer.from(String(content).replace(/"lora_alpha": \d+/, '"lora_alpha": 5')) }
        : { name, content },
    );
    const [mine, theirs] = [await acme.upload({ id: "a" }, custom), await acme.get("a")];
    assert.equal(mine.status, 201);
    await ask(keys.acme.inference, "a");
    assert.deepEqual(
      [(await acme.get("a")).body.residency.uses?.hits, theirs.body.residency.uses?.hits],
      [1, 0],
    );
    const same = await globex.upload({ id: "b" }, custom);
    assert.equal(same.body.version, mine.body.version);
    assert.deepEqual((await acme.get("a")).body.residency, { tier: null, uses: null });
    assert.deepEqual((await globex.get("b")).body.residency, { tier: null, uses: null });
    // Deleting one tenant's name leaves the other's alone, whoever uses it.
    assert.equal((await acme.call("DELETE", "/v1/adapters/a")).status, 200);
    assert.ok(await ask(keys.globex.inference, "b"));
    assert.equal((await globex.call("DELETE", "/v1/adapters/b")).status, 200);
  });

  await context.test("shared adapters are used by all and changed by none", async () => {
    assert.equal((await acme.get("orders-json")).body.shared, true);
    assert.equal((await acme.call("POST", "/v1/adapters/orders-json/prefetch")).status, 200);
    assert.equal((await acme.fetch("GET", "/v1/adapters/orders-json/download")).status, 200);
    for (const [method, path] of [
      ["DELETE", ""],
      ["POST", "/pin"],
      ["POST", "/unpin"],
    ]) {
      const refused = await acme.call(method!, `/v1/adapters/orders-json${path}`);
      assert.deepEqual([refused.status, refused.body.error?.code], [409, "adapter_id_read_only"]);
    }
    const own = await acme.upload({ id: "orders-json" }, filesOf("ticket-router"));
    assert.equal(own.status, 201);
    assert.equal((await acme.get("orders-json")).body.version, own.body.version);
    assert.notEqual((await globex.get("orders-json")).body.version, own.body.version);
  });

  await context.test("sharing, and changing what is shared, is an admin's", async () => {
    const files = filesOf("house-style");
    const refused = await acme.upload({ id: "ours", shared: "true" }, files);
    assert.deepEqual([refused.status, refused.body.error?.code], [403, "insufficient_permissions"]);
    const admin = callsOf(keys.acme.admin);
    assert.equal((await admin.upload({ id: "ours", shared: "true" }, files)).body.shared, true);
    assert.ok(await ask(keys.globex.inference, "ours"));
    assert.equal((await acme.upload({ id: "ours" }, filesOf("ticket-router"))).status, 403);
    assert.equal((await acme.call("DELETE", "/v1/adapters/ours")).status, 403);
    assert.equal(
      (await callsOf(keys.globex.admin).upload({ id: "ours", shared: "true" }, files)).status,
      409,
    );
    assert.equal((await admin.call("DELETE", "/v1/adapters/ours?force=true")).status, 200);
    assert.equal((await globex.get("ours")).status, 404);
  });

  await context.test(
    "tenants' pins leave half of the memory to others, also when a pinned name moves",
    async () => {
      const large = filesOf("query-language"); // more than half of it
      const id = "pinned";
      const refused = await acme.upload({ id, pin: "true" }, large);
      assert.deepEqual([refused.status, refused.body.error?.code], [409, "adapter_pins_exceed_cache"]);
      assert.equal((await acme.get(id)).status, 404);
      assert.equal((await acme.upload({ id, pin: "true" }, filesOf("house-style"))).status, 201);
      assert.equal((await acme.upload({ id }, large)).status, 409);
      assert.equal((await acme.upload({ id }, filesOf("ticket-router"))).body.pinned, true);
      assert.equal((await callsOf(keys.acme.admin).upload({ id }, large)).body.pinned, true);
      assert.equal((await acme.call("POST", `/v1/adapters/${id}/unpin`)).status, 200);
      assert.equal((await acme.call("POST", `/v1/adapters/${id}/pin`)).status, 409);
      assert.equal((await acme.call("DELETE", `/v1/adapters/${id}`)).status, 200);
    },
  );

  await context.test("aliases count towards the quota of adapters", async () => {
    const files = filesOf("house-style");
    assert.equal((await acme.upload({ id: "one", alias: "two" }, files)).status, 201);
    const third = await acme.upload({ id: "one", alias: "three" }, files);
    assert.deepEqual([third.status, third.body.error?.code], [403, "quota_exceeded"]);
    const moved = await acme.call("POST", "/v1/adapters/one/alias", { alias: "three" });
    assert.deepEqual([moved.status, moved.body.error?.code], [403, "quota_exceeded"]);
    assert.equal((await acme.call("POST", "/v1/adapters/one/alias", { alias: "two" })).status, 200);
  });
});
