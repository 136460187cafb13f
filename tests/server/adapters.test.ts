// The adapters' routes on the embedded base, the real engine and the real store.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import OpenAI from "openai";
import { tarOf, zipOf } from "../../adapters-store/archives/archive-fixture.ts";
import type { AdapterAnswer } from "../../server/endpoints/adapters/adapter-answer.ts";
import { AdapterCalls, type NamedContent, peftFiles } from "./adapter-forms.ts";
import { tinyDirectory } from "./scripted-app.ts";
import { startTiny, type TinyServer } from "./start-tiny.ts";

const demos = join(tinyDirectory, "adapters");
const filesOf = (demo: string) => peftFiles(join(demos, demo));
const orders = filesOf("orders-json");
const tickets = filesOf("ticket-router");
const style = filesOf("house-style");

type Page = {
  readonly data: readonly AdapterAnswer[];
  readonly first_id: string | null;
  readonly last_id: string | null;
  readonly has_more: boolean;
};
type Versions = { readonly data: readonly { readonly version: string; readonly is_current: boolean }[] };

suite("adapters over HTTP", () => {
  let server: TinyServer;
  let calls: AdapterCalls;
  const texts = new Map<string, string>();

  before(async () => {
    server = await startTiny();
    calls = new AdapterCalls(server.url);
    for (const demo of ["orders-json", "ticket-router"]) {
      await upload(`original-${demo}`, filesOf(demo));
      texts.set(demo, await ask(`original-${demo}`));
    }
    assert.notEqual(texts.get("orders-json"), texts.get("ticket-router"));
  });

  after(() => server[Symbol.asyncDispose]());

  async function upload(id: string, files: readonly NamedContent[], fields = {}): Promise<AdapterAnswer> {
    const { status, body } = await calls.upload({ id, ...fields }, files);
    assert.equal(status, 201, body.error?.message);
    return body;
  }

  async function ask(model: string): Promise<string> {
    const body = { model, prompt: "Please", max_tokens: 24, temperature: 0, ignore_eos: true };
    return (await server.client.completions.create(body)).choices[0]!.text;
  }

  /** A stream of many tokens that has begun, and a way to hear the rest of it. */
  async function stream(model: string): Promise<{ readonly rest: () => Promise<string> }> {
    const body = { model, prompt: "Please", max_tokens: 300, temperature: 0, ignore_eos: true };
    const chunks = await server.client.completions.create({ ...body, stream: true });
    const iterator = chunks[Symbol.asyncIterator]();
    let text = (await iterator.next()).value!.choices[0]!.text;
    const rest = async () => {
      for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
        text += next.value.choices[0]?.text ?? "";
      }
      return text;
    };
    return { rest };
  }

  /** The sum over a name's series. */
  async function metric(name: string): Promise<number> {
    const { body } = await calls.call<string>("GET", "/metrics");
    const lines = String(body).split("\n");
    const found = lines.filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
    return found.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
  }

  test("an upload tells what it is and what it takes", async () => {
    const adapter = await upload("told", orders, { metadata: '{"team":"sales"}' });
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
    const { body } = await calls.get("told");
    const { residency, ...described } = body;
    assert.deepEqual(described, adapter);
    assert.ok(residency.uses!.hits > 0); // of original-orders-json, the same version
  });

  test("one adapter in every wrapping is one version", async () => {
    const archived = orders.map(({ name, content }) => ({ name: `orders/${name}`, content }));
    const { body: container } = await download("original-orders-json", "cotenant");
    const wrappings: NamedContent[] = [
      { name: "orders.tar", content: tarOf(archived) },
      { name: "orders.tar.gz", content: gzipSync(tarOf(archived)) },
      { name: "orders.tgz", content: gzipSync(tarOf(orders)) },
      { name: "orders.zip", content: zipOf(archived) },
      { name: "orders.cotenant", content: container },
    ];
    const plain = await upload("wrapped/files", orders);
    for (const wrapping of wrappings) {
      const adapter = await upload(`wrapped/${wrapping.name}`, [wrapping]);
      assert.equal(adapter.version, plain.version, wrapping.name);
    }
    assert.equal(await ask("wrapped/orders.zip"), texts.get("orders-json"));
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
      [{ id: "bad" }, [{ name: "a.tgz", content: Buffer.from("x") }], 400, "invalid_value"],
      [{ id: "bad" }, [{ name: "a.cotenant", content: Buffer.alloc(99) }], 400, "container_malformed"],
      [{ id: "bad" }, [{ name: "a.gguf", content: Buffer.alloc(99) }], 400, "gguf_malformed"],
      [{ id: "bad" }, [{ name: "../a.gguf", content: Buffer.alloc(9) }], 400, "invalid_value"],
      [
        { id: "bad" },
        [{ name: "bomb.tgz", content: gzipSync(Buffer.alloc(2 ** 26)) }],
        413,
        "body_too_large",
      ],
    ];
    for (const [fields, files, status, code] of refused) {
      const answer = await calls.upload(fields, files);
      assert.equal(answer.body.error?.code, code, JSON.stringify([fields, answer.body]));
      assert.equal(answer.status, status);
    }
    assert.equal((await calls.get("bad")).status, 404);
    assert.deepEqual(readdirSync(join(server.dataDirectory, "uploads")), []);
    assert.deepEqual(readdirSync(join(server.dataDirectory, "adapters", "quarantine")), []);
  });

  test("pages are in the order of ids, each once", async () => {
    const ids = ["page/c", "page/a", "page/b"];
    for (const id of ids) await upload(id, tickets);
    const seen: string[] = [];
    let query = "limit=2";
    for (;;) {
      const { body } = await calls.call<Page>("GET", `/v1/adapters?${query}`);
      assert.equal(body.first_id, body.data[0]?.id);
      assert.equal(body.last_id, body.data.at(-1)?.id);
      seen.push(...body.data.map(({ id }) => id));
      if (!body.has_more) break;
      assert.equal(body.data.length, 2);
      query = `limit=2&after=${encodeURIComponent(body.last_id!)}`;
    }
    assert.deepEqual(seen, [...new Set(seen)].sort());
    for (const id of ids) assert.ok(seen.includes(id));
    assert.equal((await calls.call("GET", "/v1/adapters?limit=0")).status, 400);
    assert.equal((await calls.call("GET", "/v1/adapters?before=a")).body.error?.code, "unknown_parameter");
    const none = await calls.call<Page>("GET", "/v1/adapters?after=zzzz");
    assert.deepEqual([none.body.data, none.body.last_id, none.body.has_more], [[], null, false]);
  });

  test("an id with slashes ends where a route below it begins, unless they are encoded", async () => {
    await upload("deep/er/still", tickets);
    await upload("deep/er/versions", orders);
    assert.equal((await calls.get("deep/er/still")).body.id, "deep/er/still");
    const { body } = await calls.call<Versions>("GET", "/v1/adapters/deep/er/still/versions");
    assert.equal(body.data.length, 1);
    assert.equal((await calls.get("deep%2Fer%2Fversions")).body.id, "deep/er/versions");
    assert.equal((await calls.get("deep/er/versions")).status, 404); // versions of deep/er, which is not there
    assert.equal((await calls.get("deep/er/pin")).status, 404);
    const wrongMethod = await calls.call("POST", "/v1/adapters/deep/er/still");
    assert.equal(wrongMethod.status, 405);
  });

  test("the same upload again is the same version; another moves the id, and versions tell both", async () => {
    const first = await upload("moving", orders);
    assert.equal((await upload("moving", orders)).version, first.version);
    const second = await upload("moving", tickets, { alias: "moving-too" });
    assert.equal(await ask("moving"), texts.get("ticket-router"));
    assert.equal(await ask("moving-too"), texts.get("ticket-router"));
    const { body } = await calls.call<Versions>("GET", "/v1/adapters/moving/versions");
    assert.deepEqual(
      body.data.map(({ version, is_current }) => [version, is_current]),
      [
        [second.version, true],
        [first.version, false],
      ],
    );
    const back = await calls.call("POST", "/v1/adapters/moving/alias", { version: first.version });
    assert.equal(back.body.version, first.version);
    assert.equal(await ask("moving"), texts.get("orders-json"));
    assert.equal(await ask("moving-too"), texts.get("ticket-router"));
    const named = await calls.call("POST", "/v1/adapters/moving/alias", {
      name: "moving-old",
      version: second.version,
    });
    assert.deepEqual([named.body.id, named.body.version], ["moving-old", second.version]);
    const unknown = await calls.call("POST", "/v1/adapters/moving/alias", { version: "0".repeat(64) });
    assert.deepEqual([unknown.status, unknown.body.error?.code], [404, "adapter_version_unknown"]);
    assert.equal((await calls.call("POST", "/v1/adapters/moving/alias", {})).status, 400);
    assert.equal((await calls.call("POST", "/v1/adapters/moving/alias", { alias: "tiny" })).status, 409);
  });

  test("a stream keeps the version that it began with while its name moves", async () => {
    const body = { prompt: "Please", max_tokens: 300, temperature: 0, ignore_eos: true };
    const alone = await server.client.completions.create({ ...body, model: "original-orders-json" });
    await upload("swapped", orders);
    const running = await stream("swapped");
    await upload("swapped", tickets);
    assert.equal(await ask("swapped"), texts.get("ticket-router"));
    assert.equal(await running.rest(), alone.choices[0]!.text);
  });

  test("deleting is refused while requests use the adapter; forced, they end on it and its files go", async () => {
    const body = { prompt: "Please", max_tokens: 300, temperature: 0, ignore_eos: true };
    const { version } = await upload("leaving", style);
    const whole = await server.client.completions.create({ ...body, model: "leaving" });
    const alone = whole.choices[0]!.text;
    const stored = () => readdirSync(join(server.dataDirectory, "adapters", "versions")).includes(version);
    const running = await stream("leaving");
    const { body: described } = await calls.get("leaving");
    assert.equal(described.residency.uses!.leases, 1);
    await until(async () => (await calls.get("leaving")).body.residency.tier === "device");
    const refused = await calls.call("DELETE", "/v1/adapters/leaving");
    assert.deepEqual([refused.status, refused.body.error?.code], [409, "adapter_in_use"]);
    const forced = await calls.call<object>("DELETE", "/v1/adapters/leaving?force=true");
    assert.deepEqual(forced.body, { id: "leaving", object: "adapter", deleted: true });
    assert.equal((await calls.get("leaving")).status, 404);
    await assert.rejects(ask("leaving"), OpenAI.NotFoundError);
    assert.ok(stored());
    assert.equal(await running.rest(), alone);
    await until(() => !stored());
    assert.equal((await calls.call("DELETE", "/v1/adapters/leaving")).status, 404);
    await upload("leaving", style); // and it may come back
    assert.equal(
      (await server.client.completions.create({ ...body, model: "leaving" })).choices[0]!.text,
      alone,
    );
    assert.equal((await calls.call("DELETE", "/v1/adapters/leaving")).status, 200);
    await until(() => !stored());
  });

  test("a forced deletion that is followed by the same upload loses nothing", async () => {
    const { version } = await upload("again", style);
    const running = await stream("again");
    assert.equal((await calls.call("DELETE", "/v1/adapters/again?force")).status, 200);
    assert.equal((await upload("again", style)).version, version);
    await running.rest();
    await delay(50);
    assert.ok((await ask("again")).length > 0);
    assert.equal((await calls.call("DELETE", "/v1/adapters/again?force=1")).status, 200);
  });

  test("a version leaves a history, but not while it is the current one", async () => {
    const old = await upload("pruned", style);
    const current = await upload("pruned", tickets);
    const path = (version: string) => `/v1/adapters/pruned/versions/${version}`;
    const refused = await calls.call("DELETE", path(current.version));
    assert.deepEqual([refused.status, refused.body.error?.code], [409, "adapter_version_current"]);
    assert.equal((await calls.call("DELETE", path("nothing"))).status, 404);
    const gone = await calls.call<object>("DELETE", path(old.version));
    assert.deepEqual(gone.body, {
      id: "pruned",
      object: "adapter.version",
      version: old.version,
      deleted: true,
    });
    assert.equal((await calls.call("DELETE", path(old.version))).status, 404);
  });

  test("pinned is resident, and says so", async () => {
    await upload("pinned", style, { pin: "true" });
    assert.deepEqual(
      [(await calls.get("pinned")).body.pinned, (await metric("cotenant_adapter_pinned_bytes")) > 0],
      [true, true],
    );
    const { body: exposition } = await calls.call<string>("GET", "/metrics");
    assert.match(
      String(exposition),
      /vllm:lora_adapter_loaded\{model_name="tiny",adapter_name="pinned",level="cpu",pinned="true"\} 1/,
    );
    const moved = await upload("pinned", tickets); // the pin follows the name
    assert.equal(moved.pinned, true);
    const unpinned = await calls.call("POST", "/v1/adapters/pinned/unpin");
    assert.equal(unpinned.body.pinned, false);
    assert.equal(await metric("cotenant_adapter_pinned_bytes"), 0);
    assert.equal((await calls.call("POST", "/v1/adapters/pinned/pin")).body.pinned, true);
    assert.equal((await calls.call("POST", "/v1/adapters/pinned/unpin")).body.pinned, false);
    assert.equal((await calls.call("POST", "/v1/adapters/nobody/pin")).status, 404);
    const { body } = await calls.call<object>("POST", "/v1/adapters/pinned/prefetch");
    assert.deepEqual(body, { id: "pinned", object: "adapter.prefetch", loaded: true });
  });

  test("an adapter goes when its time is over, its alias stays", async () => {
    const { expires_at } = await upload("brief", tickets, { ttl_seconds: "1", alias: "lasting" });
    assert.ok(Math.abs(expires_at! - Date.now() / 1000) < 3);
    assert.equal(await ask("brief"), texts.get("ticket-router"));
    await until(async () => (await calls.get("brief")).status === 404);
    await assert.rejects(ask("brief"), OpenAI.NotFoundError);
    assert.equal(await ask("lasting"), texts.get("ticket-router"));
  });

  test("what is downloaded is the adapter, in either format", async () => {
    const { version } = (await calls.get("original-orders-json")).body;
    for (const format of ["peft", "cotenant"] as const) {
      const { body, name } = await download("original-orders-json", format);
      const back = await upload(`downloaded-${format}`, [{ name, content: body }]);
      assert.equal(back.version, version, format);
    }
    const container = await download("original-orders-json", "cotenant");
    await upload("from-container", [{ name: container.name, content: container.body }]);
    const made = await download("from-container", "peft"); // not as it was uploaded: made from what it decodes to
    assert.equal((await upload("made", [{ name: made.name, content: made.body }])).version, version);
    assert.deepEqual((await download("from-container", "cotenant")).body, container.body);
    assert.deepEqual(readdirSync(join(server.dataDirectory, "uploads")), []);
    const moved = await upload("from-container", tickets);
    const former = await download("from-container", "cotenant", version);
    assert.notEqual(moved.version, version);
    assert.deepEqual(former.body, container.body);
  });

  async function download(id: string, format: string, version?: string) {
    const query = version === undefined ? "" : `&version=${version}`;
    const response = await calls.fetch("GET", `/v1/adapters/${id}/download?format=${format}${query}`);
    assert.equal(response.status, 200);
    const name = /filename="([^"]+)"/.exec(response.headers.get("content-disposition")!)![1]!;
    return { name, body: Buffer.from(await response.arrayBuffer()) };
  }

  test("every choice that was submitted has ended in one way", async () => {
    await assert.rejects(
      server.client.completions.create(
        { model: "tiny", prompt: "x", max_tokens: 900, n: 1 },
        { timeout: 20 },
      ),
    );
    await assert.rejects(server.client.completions.create({ ...left, timeout_ms: 1 } as typeof left), { code: "request_timed_out" });
    await until(async () => {
      const [submitted, ended, refused] = await Promise.all([
        metric("cotenant_requests_submitted_total"),
        metric("vllm:request_success_total"),
        metric("cotenant_requests_refused_total"),
      ]);
      return refused === 1 && submitted > 10 && submitted === ended + refused;
    });
    const loads = await metric('cotenant_adapter_loads_total{model_name="tiny",tier="host"}');
    assert.ok(loads >= 3);
    assert.equal(await metric("cotenant_adapter_load_seconds_count"), loads);
  });

  async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
    const deadlineMs = performance.now() + 10_000;
    while (!(await holds())) {
      assert.ok(performance.now() < deadlineMs, "it does not come true");
      await delay(20);
    }
  }
});
