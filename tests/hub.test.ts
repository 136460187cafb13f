// Downloads from a local server that plays the hub: its API, its redirects to storage, its refusals and its cuts.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { downloadModel, type HubOptions } from "../server/hub.ts";

const commit = "0123456789abcdef0123456789abcdef01234567";
const model = "org/tiny";
const weights = randomBytes(3_000_000);
const files: Record<string, Buffer> = {
  "config.json": Buffer.from('{"model_type":"llama"}'),
  "tokenizer.json": Buffer.from("{}"),
  "chat_template.jinja": Buffer.from("{{ messages }}"),
  "model.safetensors": weights,
  "pytorch_model.bin": Buffer.from("never"),
  "README.md": Buffer.from("never"),
};

type Fault = (request: {
  path: string;
  range: string | undefined;
  count: number;
}) => "cut" | "corrupt" | number | undefined;

class FakeHub {
  readonly requests: string[] = []; // paths of bodies, with their range
  files = files;
  fault: Fault = () => undefined;
  token: string | undefined;
  endpoint = "";
  readonly #server = createServer((request, response) => this.#answer(request, response));

  async start(context: TestContext): Promise<this> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    this.endpoint = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
    context.after(() => this.stop());
    return this;
  }

  stop(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  #answer(request: IncomingMessage, response: ServerResponse): unknown {
    const path = decodeURIComponent(request.url ?? "").replace(/\?.*/, "");
    if (this.token !== undefined && request.headers.authorization !== `Bearer ${this.token}`) {
      return response.writeHead(401).end();
    }
    if (path === `/api/models/${model}/revision/main`)
      return json(response, { _id: "1", id: model, sha: commit });
    if (path === `/api/models/${model}/tree/${commit}`)
      return json(response, Object.entries(this.files).map(listed));
    const name = path.replace(`/${model}/resolve/${commit}/`, "");
    const body = this.files[name];
    return body === undefined ? response.writeHead(404).end() : this.#send(name, body, { request, response });
  }

  #send(
    name: string,
    body: Buffer,
    { request, response }: { request: IncomingMessage; response: ServerResponse },
  ): unknown {
    const { range } = request.headers;
    const count = this.requests.filter((seen) => seen.startsWith(name)).length;
    this.requests.push(range === undefined ? name : `${name} ${range}`);
    const fault = this.fault({ path: name, range, count });
    if (typeof fault === "number") return response.writeHead(fault).end();
    const from = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0);
    const rest = Buffer.from(body.subarray(from));
    if (fault === "corrupt") rest[0] = rest[0]! ^ 1;
    response.writeHead(range === undefined ? 200 : 206, { "content-length": rest.length });
    if (fault !== "cut") return response.end(rest);
    return response.write(rest.subarray(0, Math.ceil(rest.length / 2)), () =>
      setTimeout(() => response.destroy(), 50),
    );
  }
}

function json(response: ServerResponse, value: unknown): unknown {
  return response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(value));
}

function listed([path, body]: [string, Buffer]) {
  const oid = createHash("sha1").update(`blob ${body.length}\0`).update(body).digest("hex");
  const lfs = { oid: createHash("sha256").update(body).digest("hex"), size: body.length, pointerSize: 130 };
  return { type: "file", path, size: body.length, oid, ...(path.endsWith(".safetensors") && { lfs }) };
}

async function setUp(context: TestContext, change: Partial<Pick<FakeHub, "files" | "fault" | "token">> = {}) {
  const hub = await Object.assign(new FakeHub(), change).start(context);
  const cacheDirectory = mkdtempSync(join(tmpdir(), "cotenant-hub-"));
  context.after(() => rmSync(cacheDirectory, { recursive: true }));
  const said: string[] = [];
  const options: HubOptions = {
    cacheDirectory,
    endpoint: hub.endpoint,
    token: undefined,
    onProgress: () => {},
    onOffline: (line) => said.push(line),
  };
  return { hub, options, said, folder: join(cacheDirectory, "hub", "org--tiny") };
}

test("downloads what a server needs and nothing else; a second start downloads nothing", async (context) => {
  const { hub, options } = await setUp(context);
  const progress: number[] = [];
  const directory = await downloadModel(model, { ...options, onProgress: ({ done }) => progress.push(done) });
  assert.deepEqual(readdirSync(directory).sort(), [
    "chat_template.jinja",
    "config.json",
    "model.safetensors",
    "tokenizer.json",
  ]);
  assert.deepEqual(readFileSync(join(directory, "model.safetensors")), weights);
  assert.equal(progress.at(-1), weights.length);
  hub.requests.length = 0;
  assert.equal(await downloadModel(model, options), directory);
  assert.deepEqual(hub.requests, []);
});

test("an index decides which shards are fetched", async (context) => {
  const index = JSON.stringify({ weight_map: { a: "model-1.safetensors", b: "model-2.safetensors" } });
  const shards = {
    "model-1.safetensors": weights.subarray(0, 9),
    "model-2.safetensors": weights.subarray(9, 20),
  };
  const { "config.json": config } = files;
  const sharded = {
    "config.json": config!,
    "model.safetensors.index.json": Buffer.from(index),
    ...shards,
    "consolidated.safetensors": weights,
  };
  const { options } = await setUp(context, { files: sharded });
  const directory = await downloadModel(model, options);
  assert.deepEqual(readdirSync(directory).sort(), [
    "config.json",
    "model-1.safetensors",
    "model-2.safetensors",
    "model.safetensors.index.json",
  ]);
});

test("a cut connection is resumed in the same run", async (context) => {
  const { hub, options } = await setUp(context, {
    fault: ({ path, count }) => (path === "model.safetensors" && count < 2 ? "cut" : undefined),
  });
  const directory = await downloadModel(model, options);
  assert.deepEqual(readFileSync(join(directory, "model.safetensors")), weights);
  const ranges = hub.requests.filter((request) => request.startsWith("model.safetensors bytes="));
  assert.equal(ranges.length, 2);
});

test("a run that gave up leaves no servable directory, and the next run goes on where it stopped", async (context) => {
  const { hub, options, folder } = await setUp(context, {
    fault: ({ path, count }) => (path !== "model.safetensors" ? undefined : count === 0 ? "cut" : 403),
  });
  await assert.rejects(downloadModel(model, options), { code: "hub_access_denied" });
  assert.deepEqual(readdirSync(folder), [`${commit}.partial`]);
  const received = statSync(join(folder, `${commit}.partial`, "model.safetensors.partial")).size;
  assert.ok(received > 0 && received < weights.length);
  hub.fault = () => undefined;
  hub.requests.length = 0;
  const directory = await downloadModel(model, options);
  assert.deepEqual(hub.requests, [`model.safetensors bytes=${received}-`]);
  assert.deepEqual(readFileSync(join(directory, "model.safetensors")), weights);
});

test("a corrupted body is refused and fetched again", async (context) => {
  const { hub, options } = await setUp(context, {
    fault: ({ count }) => (count === 0 ? "corrupt" : undefined),
  });
  const directory = await downloadModel(model, options);
  assert.deepEqual(readFileSync(join(directory, "model.safetensors")), weights);
  assert.equal(hub.requests.filter((request) => request === "config.json").length, 2);
});

test("a body that is corrupted every time is an error, never a model", async (context) => {
  const { options, folder } = await setUp(context, {
    fault: ({ path }) => (path === "model.safetensors" ? "corrupt" : undefined),
  });
  await assert.rejects(downloadModel(model, options), { code: "hub_hash_mismatch" });
  assert.deepEqual(readdirSync(folder), [`${commit}.partial`]);
});

test("a gated model needs HF_TOKEN, and says so", async (context) => {
  const { options } = await setUp(context, { token: "hf_secret" });
  await assert.rejects(downloadModel(model, options), { code: "hub_access_denied", message: /HF_TOKEN/ });
  await assert.rejects(downloadModel(model, { ...options, token: "secret" }), {
    code: "hub_token_malformed",
  });
  await downloadModel(model, { ...options, token: "hf_secret" });
});

test("offline: a complete copy is served and said so; without one it is an error", async (context) => {
  const { hub, options, said } = await setUp(context);
  const directory = await downloadModel(model, options);
  hub.stop();
  assert.equal(await downloadModel(model, options), directory);
  assert.equal(said.length, 1);
  assert.equal(await downloadModel(`${model}@${commit}`, options), directory);
  await assert.rejects(downloadModel("org/other", options), { code: "hub_unreachable" });
});

test("a folder that a living process downloads into is left alone; a dead one's lock counts for nothing", async (context) => {
  const { options, folder } = await setUp(context);
  mkdirSync(folder, { recursive: true });
  const lock = join(folder, `${commit}.lock`);
  writeFileSync(lock, String(process.ppid));
  await assert.rejects(downloadModel(model, options), { code: "hub_download_busy" });
  writeFileSync(lock, "999999999");
  await downloadModel(model, options);
  assert.deepEqual(readdirSync(folder).sort(), [commit, "revisions"]);
});

test("names and repositories that cannot be served", async (context) => {
  const { hub, options } = await setUp(context);
  await assert.rejects(downloadModel("org/absent", options), { code: "hub_not_found" });
  await assert.rejects(downloadModel("../etc", options), { code: "bad_model_name" });
  hub.files = { "config.json": files["config.json"]!, "pytorch_model.bin": files["pytorch_model.bin"]! };
  await assert.rejects(downloadModel(model, options), { code: "hub_not_servable", message: /safetensors/ });
  hub.files = { "model.gguf": weights };
  await assert.rejects(downloadModel(model, options), { code: "hub_not_servable", message: /config\.json/ });
});
