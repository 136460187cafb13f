// Adapters in and out over HTTP, on the embedded base, the real engine and the real store: uploads in every wrapping,
// lists, ids, downloads.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { gzipSync } from "node:zlib";
import { tarOf, zipOf } from "../../adapters-store/archives/archive-fixture.ts";
import type { AdapterAnswer } from "../../server/endpoints/adapters/adapter-answer.ts";
import { until } from "../until.ts";
import type { NamedContent } from "./adapter-forms.ts";
import { AdapterScene, orders, tickets } from "./adapter-scene.ts";

type Page = {
  readonly data: readonly AdapterAnswer[];
  readonly first_id: string | null;
  readonly last_id: string | null;
  readonly has_more: boolean;
};

suite("adapters in and out", () => {
  let scene: AdapterScene;

  before(async () => {
    scene = await AdapterScene.open();
  });

  after(() => scene.close());

  test("an upload tells what it is and what it takes", async () => {
    const { warnings, ...adapter } = await scene.upload("told", orders, { metadata: '{"team":"sales"}' });
    assert.deepEqual(warnings, []); // it was trained on models/tiny
    const bytes = orders.reduce((sum, { content }) => sum + content.length, 0);
    assert.match(adapter.version, /^[0-9a-f]{64}$/);
    assert.deepEqual(adapter.kinds, ["low-rank"]);
    assert.deepEqual(adapter.ranks, { min: 16, max: 16 });
    assert.equal(adapter.uploaded_bytes, bytes);
    assert.equal(adapter.stored_bytes, bytes);
    assert.ok(adapter.decoded_bytes > 0);
    assert.match(adapter.base, /^[0-9a-f]{16,}$/);
    assert.ok(adapter.modules_matched.count > 0);
    assert.deepEqual(adapter.metadata, { team: "sales" });
    assert.equal(adapter.expires_at, null);
    const { body } = await scene.calls.get("told");
    const { residency, ...described } = body;
    assert.deepEqual(described, adapter);
    assert.ok(residency.uses!.hits > 0); // of original-orders-json, the same version
  });

  test("one adapter in every wrapping is one version", async () => {
    const archived = orders.map(({ name, content }) => ({ name: `orders/${name}`, content }));
    const { content: container } = await scene.download("original-orders-json", "cotenant");
    const wrappings: NamedContent[] = [
      { name: "orders.tar", content: tarOf(archived) },
      { name: "orders.tar.gz", content: gzipSync(tarOf(archived)) },
      { name: "orders.tgz", content: gzipSync(tarOf(orders)) },
      { name: "orders.zip", content: zipOf(archived) },
      { name: "orders.cotenant", content: container },
    ];
    const plain = await scene.upload("wrapped/files", orders);
    for (const wrapping of wrappings) {
      const adapter = await scene.upload(`wrapped/${wrapping.name}`, [wrapping]);
      assert.equal(adapter.version, plain.version, wrapping.name);
      assert.equal(adapter.uploaded_bytes, wrapping.content.byteLength, wrapping.name);
    }
    assert.equal(await scene.ask("wrapped/orders.zip"), scene.texts.get("orders-json"));
  });

  test("bad uploads are refused with a code, and leave nothing", async () => {
    const refused: [Record<string, string>, readonly NamedContent[], number, string][] = [
      [{}, orders, 400, "invalid_value"],
      [{ id: "bad" }, [], 400, "invalid_value"],
      [{ id: "no good" }, orders, 400, "adapter_id_invalid"],
      [{ id: "tiny" }, orders, 409, "adapter_id_taken"],
      [{ id: "bad", alias: "tiny" }, orders, 409, "adapter_id_taken"],
      [{ id: "bad", colour: "red" }, orders, 400, "unknown_parameter"],
      [{ id: "bad", ttl_seconds: "0" }, orders, 400, "invalid_value"],
      [{ id: "bad", pin: "maybe" }, orders, 400, "invalid_value"],
      [{ id: "bad", metadata: '{"n":1}' }, orders, 400, "invalid_value"],
      [{ id: "bad", metadata: "{" }, orders, 400, "invalid_value"],
      [{ id: "bad" }, orders.slice(0, 1), 400, "adapter_weights_missing"],
      [{ id: "bad" }, [{ name: "a.tar", content: Buffer.from("x") }], 400, "archive_format_unknown"],
      [{ id: "bad" }, [{ name: "a.tgz", content: Buffer.from("x") }], 400, "archive_format_unknown"],
      [{ id: "bad" }, [{ name: "a.cotenant", content: Buffer.alloc(99) }], 400, "container_malformed"],
      [{ id: "bad" }, [{ name: "a.gguf", content: Buffer.alloc(99) }], 400, "gguf_malformed"],
      [{ id: "bad" }, [{ name: "../a.gguf", content: Buffer.alloc(9) }], 400, "invalid_value"],
      [
        { id: "bad" },
        [{ name: "b.tgz", content: gzipSync(Buffer.alloc(2 ** 26)) }],
        400,
        "archive_malformed",
      ],
    ];
    for (const [fields, files, status, code] of refused) {
      const answer = await scene.calls.upload(fields, files);
      assert.equal(answer.body.error?.code, code, JSON.stringify([fields, answer.body]));
      assert.equal(answer.status, status);
    }
    assert.equal((await scene.calls.get("bad")).status, 404);
    assert.deepEqual(readdirSync(join(scene.server.dataDirectory, "uploads")), []);
    assert.deepEqual(readdirSync(join(scene.server.dataDirectory, "adapters", "quarantine")), []);
  });

  test("pages are in the order of ids, each once", async () => {
    const ids = ["page/c", "page/a", "page/b"];
    for (const id of ids) await scene.upload(id, tickets);
    const seen: string[] = [];
    let query = "limit=2";
    for (;;) {
      const { body } = await scene.calls.call<Page>("GET", `/v1/adapters?${query}`);
      assert.equal(body.first_id, body.data[0]?.id);
      assert.equal(body.last_id, body.data.at(-1)?.id);
      seen.push(...body.data.map(({ id }) => id));
      if (!body.has_more) break;
      assert.equal(body.data.length, 2);
      query = `limit=2&after=${encodeURIComponent(body.last_id!)}`;
    }
    assert.deepEqual(seen, [...new Set(seen)].sort());
    for (const id of ids) assert.ok(seen.includes(id));
    assert.equal((await scene.calls.call("GET", "/v1/adapters?limit=0")).status, 400);
    assert.equal(
      (await scene.calls.call("GET", "/v1/adapters?before=a")).body.error?.code,
      "unknown_parameter",
    );
    const none = await scene.calls.call<Page>("GET", "/v1/adapters?after=zzzz");
    assert.deepEqual([none.body.data, none.body.last_id, none.body.has_more], [[], null, false]);
  });

  test("an id with slashes ends where a route below it begins, unless they are encoded", async () => {
    await scene.upload("deep/er/still", tickets);
    await scene.upload("deep/er/versions", orders);
    assert.equal((await scene.calls.get("deep/er/still")).body.id, "deep/er/still");
    const { body } = await scene.calls.call<{ data: object[] }>("GET", "/v1/adapters/deep/er/still/versions");
    assert.equal(body.data.length, 1);
    assert.equal((await scene.calls.get("deep%2Fer%2Fversions")).body.id, "deep/er/versions");
    assert.equal((await scene.calls.get("deep/er/versions")).status, 404); // versions of deep/er, which is not there
    assert.equal((await scene.calls.get("deep/er/pin")).status, 404);
    const wrongMethod = await scene.calls.call("POST", "/v1/adapters/deep/er/still");
    assert.equal(wrongMethod.status, 405);
  });

  test("what is downloaded is the adapter, in either format", async () => {
    const { version } = (await scene.calls.get("original-orders-json")).body;
    for (const format of ["peft", "cotenant"] as const) {
      const file = await scene.download("original-orders-json", format);
      const back = await scene.upload(`downloaded-${format}`, [file]);
      assert.equal(back.version, version, format);
    }
    const container = await scene.download("original-orders-json", "cotenant");
    assert.deepEqual(readdirSync(join(scene.server.dataDirectory, "uploads")), []);
    const path = "/v1/adapters/original-orders-json/download?format=cotenant";
    const left = await scene.calls.fetch("GET", path);
    await left.body!.cancel();
    await until(() => readdirSync(join(scene.server.dataDirectory, "uploads")).length === 0);
    assert.notEqual((await scene.upload("downloaded-peft", tickets)).version, version);
    const former = await scene.download("downloaded-peft", "cotenant", version); // of the history
    assert.deepEqual(former.content, container.content);
  });
});
