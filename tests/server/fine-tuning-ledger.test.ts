// A job without gradients as its seed ledger: downloaded, uploaded again, and answering the same to the bit.

import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import OpenAI from "openai";
import { AdapterCalls } from "./adapter-forms.ts";
import { chatLines, smallMethod, untilJob, uploadLines } from "./fine-tuning-scene.ts";
import { errorOf } from "./scripted-app.ts";
import { startTiny, type TinyServer } from "./start-tiny.ts";
import { type TwoTenants, twoTenants } from "./two-tenants.ts";

const quotaBytes = 2 ** 21; // acme's

suite("seed ledgers", () => {
  let tenants: TwoTenants;
  let server: TinyServer;
  let acme: OpenAI;
  let calls: AdapterCalls;
  let training: string;
  const cleanups: (() => unknown)[] = [];

  before(async () => {
    const context = { after: (cleanup: () => unknown) => void cleanups.push(cleanup) };
    tenants = await twoTenants(context as Parameters<typeof twoTenants>[0], {
      storedBytes: quotaBytes,
    });
    server = await startTiny({ keysFile: tenants.keysFile });
    const apiKey = tenants.keys.acme.manage;
    acme = new OpenAI({ baseURL: `${server.url}/v1`, apiKey, maxRetries: 0 });
    calls = new AdapterCalls(server.url, apiKey);
    training = await uploadLines(acme, chatLines("ticket-router", 8));
  });

  after(async () => {
    await server[Symbol.asyncDispose]();
    for (const cleanup of cleanups) await cleanup();
  });

  /** Learns enough in four steps that its answers are not the base's. */
  const train = async (adapter: object, model = "tiny") => {
    const hyperparameters: object = { ...smallMethod.supervised.hyperparameters, learning_rate: 0.1 };
    const method = { type: "supervised", supervised: { hyperparameters }, adapter } as const;
    const made = await acme.fineTuning.jobs.create({ model, training_file: training, method, seed: 7 });
    const job = await untilJob(acme, made.id);
    assert.equal(job.status, "succeeded", JSON.stringify(job.error));
    return job;
  };
  const ledgerOf = (id: string, query = "", key = tenants.keys.acme.manage) =>
    fetch(`${server.url}/v1/fine_tuning/jobs/${id}/ledger${query}`, {
      headers: { authorization: `Bearer ${key}` },
    });
  const answerOf = async (model: string) => {
    const request = { model, prompt: "Router: the printer", max_tokens: 12, logprobs: 3, seed: 1 };
    const { choices } = await acme.completions.create({ ...request, temperature: 0 });
    return { text: choices[0]!.text, logprobs: choices[0]!.logprobs };
  };

  for (const [type, kilobytes] of [
    ["mezo", 3],
    ["sparse-mezo", 3],
  ] as const) {
    test(`${type}: the ledger of the result and of a checkpoint are adapters with the same answers`, async () => {
      const job = await train({ type, rank: 2, target_modules: ["q_proj", "down_proj"] });
      const { data } = await acme.fineTuning.jobs.checkpoints.list(job.id);
      assert.deepEqual(
        data.map(({ step_number }) => step_number),
        [4, 2],
      );
      for (const { step_number: step, fine_tuned_model_checkpoint: model } of data) {
        const response = await ledgerOf(job.id, step === 4 ? "" : `?step=${step}`);
        assert.equal(response.status, 200);
        assert.match(response.headers.get("content-disposition")!, new RegExp(`"${model}\\.cotenant"`));
        const content = new Uint8Array(await response.arrayBuffer());
        assert.ok(content.length < kilobytes * 1024, `${content.length} bytes`);
        const id = `${type}-ledger-${step}`;
        const uploaded = await calls.upload({ id }, [{ name: "adapter.cotenant", content }]);
        assert.equal(uploaded.status, 201, JSON.stringify(uploaded.body));
        assert.equal(uploaded.body.version, response.headers.get("x-adapter-version"));
        assert.equal(uploaded.body.version, (await calls.get(model)).body.version);
        const own = await answerOf(model);
        assert.deepEqual(await answerOf(id), own);
        assert.notDeepEqual(own, await answerOf("tiny"));
      }
      const none = await ledgerOf(job.id, "?step=3");
      assert.equal(none.status, 404);
      assert.equal((await errorOf(none)).code, "ledger_not_found");
      assert.equal((await ledgerOf(job.id, "", tenants.keys.globex.manage)).status, 404);
      assert.equal((await ledgerOf(job.id, "?step=two")).status, 400);
    });
  }

  test("a ledger counts towards the quota of stored bytes, and is deleted once the job is over", async () => {
    const job = await train({ type: "mezo", rank: 2 });
    const remove = (key = tenants.keys.acme.manage) =>
      fetch(`${server.url}/v1/fine_tuning/jobs/${job.id}/ledger`, {
        method: "DELETE",
        headers: { authorization: `Bearer ${key}` },
      });
    assert.equal((await remove(tenants.keys.globex.manage)).status, 404);
    const before = await roomFor(acme, { most: 100, over: quotaBytes });
    assert.equal((await remove()).status, 200);
    const after = await roomFor(acme, { most: before, over: before + 64 });
    assert.equal(after - before, 4 + 4 * 8); // the initial seed, and four steps
    assert.equal((await ledgerOf(job.id)).status, 404);
    assert.equal((await errorOf(await remove())).code, "ledger_not_found");
    assert.equal((await calls.get(job.fine_tuned_model!)).status, 200);
  });

  test("jobs with gradients, and those that go on from an adapter, have none", async () => {
    const lora = await train(smallMethod.adapter);
    const further = await train({ type: "mezo" }, lora.fine_tuned_model!);
    for (const { id } of [lora, further]) {
      const response = await ledgerOf(id);
      assert.equal(response.status, 404);
      const { code, message } = await errorOf(response);
      assert.equal(code, "ledger_not_found");
      assert.match(message, /download the adapter/);
    }
  });
});

/** The bytes of the largest file that is taken: at least `most`, and less than `over`. */
async function roomFor(client: OpenAI, bounds: { most: number; over: number }): Promise<number> {
  let { most, over } = bounds;
  while (over - most > 1) {
    const sizeBytes = Math.floor((most + over) / 2);
    const id = await uploadLines(client, linesOf(sizeBytes)).catch((error: unknown) => {
      assert.ok(error instanceof OpenAI.APIError && error.code === "quota_exceeded", String(error));
      return null;
    });
    if (id === null) over = sizeBytes;
    else {
      most = sizeBytes;
      await client.files.delete(id);
    }
  }
  return most;
}

/** Examples of so many bytes in all, at least 100. */
function linesOf(sizeBytes: number): string {
  const lineBytes = 2 ** 19;
  const line = (bytes: number) => {
    const empty = '{"prompt":"","completion":"b"}\n';
    return empty.replace('""', `"${"a".repeat(bytes - empty.length)}"`);
  };
  const whole = Math.max(0, Math.floor(sizeBytes / lineBytes) - 1);
  return line(lineBytes).repeat(whole) + line(sizeBytes - whole * lineBytes);
}
