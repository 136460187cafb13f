// The Files API with the official openai client: what comes back, what is refused and why, and whose it is.

import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import OpenAI, { APIError, toFile } from "openai";
import { until } from "../until.ts";
import { all, startTiny, type TinyServer } from "./start-tiny.ts";
import { type TwoTenants, twoTenants } from "./two-tenants.ts";

const chatLine = (user: string, assistant: string) =>
  JSON.stringify({
    messages: [
      { role: "user", content: user },
      { role: "assistant", content: assistant },
    ],
  });
const lines = [chatLine("Hi", "Hello"), chatLine("Grüße 🙂", "Olá"), chatLine("Bye", "See you")];
const content = `${lines.join("\n")}\n`;

suite("files", () => {
  let tenants: TwoTenants;
  let server: TinyServer;
  let acme: OpenAI;
  let globex: OpenAI;
  let dataDirectory: string;
  const cleanups: (() => unknown)[] = [];
  const filesDirectory = () => join(dataDirectory, "files");
  const clientOf = (apiKey: string) => new OpenAI({ baseURL: `${server.url}/v1`, apiKey, maxRetries: 0 });

  const start = async () => {
    server = await startTiny({ keysFile: tenants.keysFile, dataDirectory });
    acme = clientOf(tenants.keys.acme.manage);
    globex = clientOf(tenants.keys.globex.manage);
  };

  before(async () => {
    dataDirectory = await mkdtemp(join(tmpdir(), "cotenant-files-"));
    const context = { after: (cleanup: () => unknown) => void cleanups.push(cleanup) };
    tenants = await twoTenants(context as Parameters<typeof twoTenants>[0], { storedBytes: 3000 });
    await start();
  });

  after(async () => {
    await server[Symbol.asyncDispose]();
    for (const cleanup of cleanups) await cleanup();
    await rm(dataDirectory, { recursive: true });
  });

  const upload = async (client: OpenAI, text: string | Uint8Array, name = "examples.jsonl") =>
    client.files.create({ purpose: "fine-tune", file: await toFile(Buffer.from(text), name) });

  const refusal = async (sent: Promise<unknown>): Promise<APIError> => {
    const error = await sent.then(
      () => assert.fail("it was accepted"),
      (reason: unknown) => reason,
    );
    assert.ok(error instanceof APIError, String(error));
    return error;
  };

  const nothingIsLeft = () => {
    const incoming = join(filesDirectory(), "incoming");
    if (existsSync(incoming)) assert.deepEqual(readdirSync(incoming), []);
  };

  test("a file is uploaded, described, listed, read back and deleted", async () => {
    const file = await upload(acme, content, "my \u201cexamples\u201d.jsonl");
    assert.match(file.id, /^file-[0-9a-f]{32}$/);
    assert.ok(Math.abs(file.created_at - Date.now() / 1000) < 60);
    const { id, created_at } = file;
    assert.deepEqual({ ...file } as unknown, {
      id,
      object: "file",
      bytes: Buffer.byteLength(content),
      created_at,
      filename: "my \u201cexamples\u201d.jsonl",
      purpose: "fine-tune",
      status: "processed",
      status_details: null,
    });
    assert.deepEqual(await acme.files.retrieve(id), file);
    assert.equal((await acme.files.waitForProcessing(id)).id, id);
    assert.deepEqual(await all(acme.files.list()), [file]);
    assert.deepEqual(await all(acme.files.list({ purpose: "batch" })), []);
    assert.equal(await (await acme.files.content(id)).text(), content);
    assert.deepEqual(await acme.files.delete(id), { id, object: "file", deleted: true });
    for (const gone of [acme.files.retrieve(id), acme.files.content(id), acme.files.delete(id)]) {
      const error = await refusal(gone);
      assert.deepEqual([error.status, error.code], [404, "file_not_found"]);
    }
    assert.deepEqual(await all(acme.files.list()), []);
    nothingIsLeft();
  });

  test("pages go on after a file that is gone by then", async () => {
    const ids: string[] = [];
    for (let index = 0; index < 5; index++) {
      ids.push((await upload(acme, content)).id);
      while (Date.now() <= Number.parseInt(ids.at(-1)!.slice(5, 17), 16)); // ids sort by the millisecond
    }
    const pages = async (order: "asc" | "desc") =>
      (await all(acme.files.list({ limit: 2, order }))).map(({ id }) => id);
    assert.deepEqual(await pages("asc"), ids);
    assert.deepEqual(await pages("desc"), ids.toReversed());
    const first = await acme.files.list({ limit: 2 });
    assert.equal(first.has_more, true);
    const seen: string[] = [];
    for await (const { id } of acme.files.list({ limit: 2 })) {
      seen.push(id);
      await acme.files.delete(id);
    }
    assert.deepEqual(seen, ids.toReversed());
    for (const query of [{ after: "nobody" }, { limit: 0 }, { limit: 10_001 }, { order: "up" as "asc" }]) {
      const error = await refusal(acme.files.list(query).then());
      assert.deepEqual([error.status, error.param], [400, Object.keys(query)[0]]);
    }
  });

  test("another tenant's file is answered as one that nobody has", async () => {
    const { id } = await upload(acme, content);
    const unknown = `file-${"0".repeat(32)}`;
    const told = ({ status, code, message }: APIError) => [status, code, message.replace(/file-\w+/, "")];
    for (const call of ["retrieve", "content", "delete"] as const) {
      const foreign = await refusal(globex.files[call](id));
      assert.equal(foreign.status, 404);
      assert.deepEqual(told(foreign), told(await refusal(globex.files[call](unknown))));
    }
    assert.deepEqual(await all(globex.files.list()), []);
    assert.equal((await acme.files.retrieve(id)).id, id);
    await acme.files.delete(id);
  });

  test("a key that may only infer sees no files", async () => {
    const error = await refusal(clientOf(tenants.keys.acme.inference).files.list().then());
    assert.equal(error.status, 403);
  });

  test("what is wrong with a line is said with its number, and nothing stays", async () => {
    const error = await refusal(
      upload(
        acme,
        [lines[0], '{"messages": [{"role": "user", "content": 7}]}', "", lines[1], "{"].join("\n"),
      ),
    );
    assert.deepEqual([error.status, error.code, error.param], [400, "invalid_training_file", "file"]);
    assert.match(
      error.message,
      /2 lines cannot be used: line 2: messages\[0\]\.content: .*expected string.*; line 5: is not valid JSON$/,
    );
    assert.deepEqual(await all(acme.files.list()), []);
    nothingIsLeft();
  });

  test("forms that are not the API's are refused by the field, and nothing stays", async () => {
    const file = () => new File([content], "examples.jsonl");
    const cases: [string, string, [string, string | File][]][] = [
      [
        "purpose",
        "invalid_value",
        [
          ["purpose", "batch"],
          ["file", file()],
        ],
      ],
      [
        "purpose",
        "invalid_value",
        [
          ["file", file()],
          ["purpose", "vision"],
        ],
      ],
      ["purpose", "invalid_value", [["file", file()]]],
      ["file", "invalid_value", [["purpose", "fine-tune"]]],
      [
        "file",
        "invalid_value",
        [
          ["purpose", "fine-tune"],
          ["file", content],
        ],
      ],
      [
        "file",
        "invalid_value",
        [
          ["purpose", "fine-tune"],
          ["file", file()],
          ["file", file()],
        ],
      ],
      [
        "colour",
        "unknown_parameter",
        [
          ["file", file()],
          ["purpose", "fine-tune"],
          ["colour", "red"],
        ],
      ],
      [
        "expires_after",
        "unsupported_parameter",
        [
          ["purpose", "fine-tune"],
          ["expires_after[anchor]", "created_at"],
          ["file", file()],
        ],
      ],
    ];
    for (const [param, code, fields] of cases) {
      const body = new FormData();
      for (const [name, value] of fields) body.append(name, value);
      const headers = { authorization: `Bearer ${tenants.keys.acme.manage}` };
      const response = await fetch(`${server.url}/v1/files`, { method: "POST", body, headers });
      const { error } = (await response.json()) as { readonly error: { param: string; code: string } };
      assert.deepEqual([response.status, error.param, error.code], [400, param, code]);
    }
    assert.deepEqual(await all(acme.files.list()), []);
    nothingIsLeft();
  });

  test("files count towards the quota of stored bytes, also those that arrive side by side", async () => {
    const big = `${chatLine("Hi", "x".repeat(1300))}\n`; // two fit
    const sent = await Promise.allSettled([upload(acme, big), upload(acme, big), upload(acme, big)]);
    const kept = sent.filter((each) => each.status === "fulfilled");
    assert.ok(kept.length <= 2);
    for (const each of sent) if (each.status === "rejected") assert.equal(each.reason.code, "quota_exceeded");
    for (const { value } of kept) await acme.files.delete(value.id);
    const two = [await upload(acme, big), await upload(acme, big)];
    assert.equal((await refusal(upload(acme, big))).code, "quota_exceeded");
    assert.ok(await upload(globex, big), "the quota is acme's");
    for (const { id } of two) await acme.files.delete(id);
    nothingIsLeft();
  });

  test("a client that leaves in the middle of an upload leaves nothing", async () => {
    const leaving = new AbortController();
    const boundary = "XyZ";
    async function* body() {
      yield Buffer.from(
        `--${boundary}\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n${content}`,
      );
      while (readdirSync(join(filesDirectory(), "incoming")).length === 0)
        await new Promise((resolve) => setTimeout(resolve, 5));
      leaving.abort();
      await new Promise(() => {});
    }
    await assert.rejects(
      fetch(`${server.url}/v1/files`, {
        method: "POST",
        body: ReadableStream.from(body()),
        duplex: "half",
        signal: leaving.signal,
        headers: {
          authorization: `Bearer ${tenants.keys.acme.manage}`,
          "content-type": `multipart/form-data; boundary=${boundary}`,
        },
      }),
    );
    await until(() => readdirSync(join(filesDirectory(), "incoming")).length === 0);
    assert.deepEqual(await all(acme.files.list()), []);
  });

  test("files outlive the server", async () => {
    const file = await upload(acme, content);
    await server[Symbol.asyncDispose]();
    await start();
    assert.deepEqual(await all(acme.files.list()), [file]);
    assert.equal(await (await acme.files.content(file.id)).text(), content);
  });
});
