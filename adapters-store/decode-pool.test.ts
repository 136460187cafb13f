import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { adapterBytes, type DecodedAdapter, modulesOf } from "../kernels/adapter.ts";
import { AdapterError } from "../kernels/errors.ts";
import { lowRank, smolTargets } from "./container/container-fixture.ts";
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
    assert.equal(inspected.version, results[0]!.version);
    assert.equal(inspected.summary.modulesMatched.count, 3);
    assert.ok(!("adapter" in inspected));
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
  await withPool({ threads: 1, timeoutMs: 5_000 }, async (pool) => {
    const hanging = pool.decode(job("hanging", { config: { target_modules: "(([a-z._0-9])+)+!" } }));
    const good = pool.decode(job("good"));
    await assert.rejects(hanging, { code: "adapter_decode_failed", message: /longer than 5000 ms/ });
    assert.equal((await good).adapter.modules.length, 3);
  });
});

test("an answer that comes when its job was given up does not bring its thread back", async () => {
  await withPool({ threads: 1 }, async (pool) => {
    const source = { adapter: await decoded(pool, "late", 2), base, parents: [], metadata: {} };
    const leaving = new AbortController();
    const late = pool.compress({ source, options: { method: "int8" } }, leaving.signal);
    const untilMs = performance.now() + 1_200; // the thread answers, and nobody reads it yet
    while (performance.now() < untilMs);
    leaving.abort(new Error("left"));
    await assert.rejects(late, /left/);
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

/** A decoded adapter of its own for every call: jobs take theirs away. */
async function decoded(pool: DecodePool, name: string, loraAlpha: number): Promise<DecodedAdapter> {
  return (await pool.decode(job(name, { config: { lora_alpha: loraAlpha } }))).adapter;
}

const base = { targets: fixtureTargets, fingerprint: "base" };
const part = (adapter: DecodedAdapter, version: string, weight: number) => ({
  adapter,
  version,
  weight,
  layerWeights: Array<number>(fixtureTargets.layers).fill(weight),
});

test("adapters are weighted and added up in a thread, which takes them away", async () => {
  await withPool({}, async (pool) => {
    const [one, two] = [await decoded(pool, "one", 2), await decoded(pool, "two", 4)];
    const b = modulesOf(one, "low-rank")[0]!.b.slice();
    const { adapter } = await pool.compose({ parts: [part(one, "v1", 0.5), part(two, "v2", 2)] });
    const composed = modulesOf(adapter, "low-rank")[0]!;
    assert.equal(composed.rank, 4);
    assert.deepEqual([...composed.b], [...b.map((value) => value * 0.5), ...b.map((value) => value * 4)]);
    assert.equal(modulesOf(one, "low-rank")[0]!.b.length, 0); // transferred
  });
});

test("a weight beyond what a batch may share is refused like an upload's", async () => {
  await withPool({}, async (pool) => {
    const parts = [part(await decoded(pool, "huge", 2), "v1", 1e30)];
    await assert.rejects(pool.compose({ parts }), { code: "adapter_values_too_large" });
  });
});

test("compressed, merged and exported files hold what they were made of", async () => {
  await withPool({}, async (pool) => {
    const fresh = () => decoded(pool, "original", 2);
    const readBack = async (container: Uint8Array, name: string) => {
      mkdirSync(join(directory, name));
      writeFileSync(join(directory, name, "adapter.cotenant"), container);
      const files = { format: "cotenant" as const, fileNames: ["adapter.cotenant"] };
      return (await pool.decode({ ...job(name), directory: join(directory, name), files })).adapter;
    };
    const source = { adapter: await fresh(), base, parents: ["v1"], metadata: {} };
    const { container } = await pool.compress({ source, options: { method: "f32" } });
    assert.deepEqual(await readBack(container, "compressed"), await fresh());
    const options = { method: "concatenation" as const };
    const parts = [part(await fresh(), "v1", 1)];
    const merged = await pool.merge({ parts, targets: fixtureTargets, options, base, metadata: {} });
    assert.deepEqual(merged.report.lineage.parents, ["v1"]);
    assert.deepEqual(await readBack(merged.container, "merged"), await fresh());
    const exported = join(directory, "exported");
    const peft = {
      directory: exported,
      targets: fixtureTargets,
      baseModelName: "x",
      fusedProjections: false,
    };
    const { fileNames } = await pool.export({ format: "peft", adapter: await fresh(), ...peft });
    const files = { format: "peft" as const, fileNames };
    const again = await pool.decode({ ...job("again"), directory: exported, files });
    assert.deepEqual(again.adapter, await fresh());
  });
});

test("what makes an adapter has a limit of its own", async () => {
  await withPool({ threads: 1, timeoutMs: 60_000, longTimeoutMs: 1 }, async (pool) => {
    const source = { adapter: await decoded(pool, "long", 2), base, parents: [], metadata: {} };
    const endless = pool.compress({ source, options: { method: "skillpack", targetRatio: 2 } });
    await assert.rejects(endless, { code: "adapter_job_failed", message: /longer than 1 ms/ });
    assert.equal((await pool.decode(job("short"))).adapter.modules.length, 3);
  });
});

test("a decode does not wait for a queue of long jobs", async () => {
  await withPool({ threads: 2 }, async (pool) => {
    const targets = { ...smolTargets, layers: 2 };
    const compress = () => {
      const source = {
        adapter: lowRank(targets, 16),
        base: { targets, fingerprint: "f" },
        parents: [],
        metadata: {},
      };
      return pool.compress({ source, options: { method: "compeft", density: 0.3 } });
    };
    let done = 0;
    await Promise.all([pool.decode(job("warm-1")), pool.decode(job("warm-2"))]);
    const compressing = Array.from({ length: 6 }, () => compress().then(() => done++));
    await pool.decode(job("soon"));
    assert.ok(done <= 2, `${done} long jobs were done first`);
    await Promise.all(compressing);
  });
});

test("a job that is given up leaves the queue, or ends its thread; the others go on", async () => {
  await withPool({ threads: 1 }, async (pool) => {
    const source = { adapter: await decoded(pool, "given-up", 2), base, parents: [], metadata: {} };
    const hanging = pool.decode(job("endless", { config: { target_modules: "(([a-z._0-9])+)+!" } }));
    const refused = assert.rejects(hanging, { code: "adapter_decode_failed" });
    const leaving = new AbortController();
    const waiting = pool.compress({ source, options: { method: "int8" } }, leaving.signal);
    leaving.abort(new Error("left"));
    await assert.rejects(waiting, /left/);
    assert.ok(adapterBytes(source.adapter) > 0); // it never started, so it took nothing
    await pool.close();
    await refused;
  });
  await withPool({ threads: 1 }, async (pool) => {
    const leaving = new AbortController();
    const source = { adapter: await decoded(pool, "running", 2), base, parents: [], metadata: {} };
    const running = pool.compress({ source, options: { method: "int8" } }, leaving.signal);
    leaving.abort(new Error("left"));
    await assert.rejects(running, /left/);
    assert.equal((await pool.decode(job("after"))).adapter.modules.length, 3);
    const aborted = pool.export({ ...source, format: "cotenant", lineage: null, directory }, leaving.signal);
    await assert.rejects(aborted, /left/);
  });
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
