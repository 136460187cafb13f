// Adapters in S3-compatible storage: what one server took, another serves whose data folder is empty. The process on
// the other side is s3rver, or what COTENANT_TEST_S3 names.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { storageOf } from "../../server/options/adapter-store.ts";
import { startS3Server } from "../s3-server.ts";
import { AdapterCalls } from "./adapter-forms.ts";
import { AdapterScene, demoFiles } from "./adapter-scene.ts";
import { startChild } from "./server-child.ts";
import { startTiny } from "./start-tiny.ts";

const root = await mkdtemp(join(tmpdir(), "cotenant-s3-adapters-"));
const s3 = await startS3Server(root);
const { bucket, endpoint, region, credentials } = s3.options;
const url = `s3://${bucket}/${randomUUID()}`;
process.env.AWS_ENDPOINT_URL_S3 = endpoint!;
process.env.AWS_REGION = region!;
process.env.AWS_ACCESS_KEY_ID = credentials!.accessKeyId;
process.env.AWS_SECRET_ACCESS_KEY = credentials!.secretAccessKey;

after(async () => {
  await s3.close();
  await rm(root, { recursive: true, force: true });
});

test("an adapter outlives its server's disk", async () => {
  let version: string;
  let text: string;
  {
    await using server = await startTiny({ adapterStorage: storageOf(url, process.env) });
    const scene = new AdapterScene(server);
    const settings = { alias: "live", pin: "true" };
    ({ version } = await scene.upload("team/orders", demoFiles("orders-json"), settings));
    text = await scene.ask("live");
  }
  await using child = await startChild(["--adapter-store", url, "--quantize", "int8"]);
  const calls = new AdapterCalls(child.url);
  for (const id of ["team/orders", "live"]) {
    const { body } = await calls.get(id);
    assert.deepEqual([body.version, body.pinned], [version, id !== "live"]);
    const request = { model: id, prompt: "Please", temperature: 0, ignore_eos: true, max_tokens: 24 };
    const answer = await calls.call<{ choices: { text: string }[] }>("POST", "/v1/completions", request);
    assert.equal(answer.body.choices[0]!.text, text);
  }
});

test("a bucket that is not there stops the start, and says so", async () => {
  await assert.rejects(
    startChild(["--adapter-store", "s3://no-such-bucket"]),
    /no-such-bucket.*NoSuchBucket/,
  );
  await assert.rejects(startChild(["--adapter-store", "/data"]), /--adapter-store must be s3:\/\//);
});
