import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { modulesOf } from "../kernels/adapter.ts";
import { AdapterError } from "../kernels/errors.ts";
import type { DecodeJob } from "./decode-adapter.ts";
import { DecodePool, type DecodePoolOptions } from "./decode-pool.ts";
import { fixtureTargets, loraPair, modulePath, type PeftFixture, writePeft } from "./peft-fixture.ts";

const directory = mkdtempSync(join(tmpdir(), "cotenant-pool-"));
after(() => rmSync(directory, { recursive: true }));

test("decodes many adapters on a few threads, each with its own answer", async () => {
  await withPool({ threads: 2 }, async (pool) => {
    const jobs = Array.from({ length: 12 }, (_, i) => job(`a${i}`, { config: { lora_alpha: i + 1 } }));
    const results = await Promise.all(jobs.map((each) => pool.decode(each)));
    assert.deepEqual(
      results.map(({ adapter }) => modulesOf(adapter, "low-rank")[0]!.b[0]),
      jobs.map((_, i) => -(i + 1) / 2),
    );
    const inspected = await pool.inspect(jobs[0]!);
    assert.deepEqual(inspected, { summary: results[0]!.summary, version: results[0]!.version });
  });
});

test("fused projections still share one A after they crossed threads", async () => {
  await withPool({}, async (pool) => {
    const tensors = loraPair(modulePath(0, "self_attn.qkv_proj"), [2, 8, 24]);
    const { adapter } = await pool.decode(
      job("fused", { tensors, config: { target_modules: "all-linear" } }),
    );
    const [first, , third] = modulesOf(adapter, "low-rank");
    assert.equal(first!.a, third!.a);
  });
});

test("a refusal arrives with its class and code, and the thread goes on", async () => {
  await withPool({ threads: 1 }, async (pool) => {
    const bad = pool.decode(job("bad", { config: { use_qalora: true } }));
    const good = pool.decode(job("good"));
    await assert.rejects(
      bad,
      (error) => error instanceof AdapterError && error.code === "adapter_feature_unsupported",
    );
    assert.equal((await good).adapter.modules.length, 3);
  });
});

test("a pattern that never ends costs its thread, not the pool", async () => {
  await withPool({ threads: 1, timeoutMs: 1_500 }, async (pool) => {
    const hanging = pool.decode(job("hanging", { config: { target_modules: "(([a-z._0-9])+)+!" } }));
    const good = pool.decode(job("good"));
    await assert.rejects(hanging, { code: "adapter_decode_failed", message: /longer than 1500 ms/ });
    assert.equal((await good).adapter.modules.length, 3);
  });
});

test("an answer that comes when its job was given up does not bring its thread back", async () => {
  await withPool({ threads: 1, timeoutMs: 1_000 }, async (pool) => {
    await pool.decode(job("warm"));
    await new Promise(setImmediate); // from there, the event loop runs timers before it reads messages
    const late = pool.decode(job("late"));
    const rejected = assert.rejects(late, { code: "adapter_decode_failed", message: /longer than/ });
    const untilMs = performance.now() + 1_200; // the timer and the answer are both due when this thread is free
    while (performance.now() < untilMs);
    await rejected;
    await new Promise(setImmediate); // the answer is read, the thread has not ended yet
    for (const name of ["one", "two"]) assert.equal((await pool.decode(job(name))).adapter.modules.length, 3);
  });
});

test("a closed pool refuses what runs, what waits and what comes", async () => {
  const pool = new DecodePool({ threads: 1 });
  const jobs = [pool.decode(job("one")), pool.decode(job("two"))];
  const outcomes = Promise.allSettled(jobs);
  await pool.close();
  for (const outcome of await outcomes) assert.equal(outcome.status, "rejected");
  await assert.rejects(pool.decode(job("three")), { code: "adapter_decode_failed" });
});

function job(name: string, fixture: PeftFixture = {}): DecodeJob {
  return {
    directory: writePeft(join(directory, name), fixture),
    files: { format: "peft", fileNames: ["adapter_config.json", "adapter_model.safetensors"] },
    targets: fixtureTargets,
    baseFingerprint: "base",
  };
}

async function withPool(options: DecodePoolOptions, use: (pool: DecodePool) => Promise<void>): Promise<void> {
  const pool = new DecodePool(options);
  try {
    await use(pool);
  } finally {
    await pool.close();
  }
}
