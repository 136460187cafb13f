// What a host's death leaves of a residency: nothing in memory, everything known, leases that still count.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { AdapterError } from "../../kernels/errors.ts";
import type { Lease } from "./residency.ts";
import { residencyScene, settled } from "./residency-fixture.ts";

const sizes = { a: 4, b: 4, c: 8 };

function scene(capacityBytes = 16) {
  const taken = new Set<string>();
  const { residency } = residencyScene(sizes, {
    capacityBytes,
    load: async (version) => ({
      adapter: {
        modules: [{ kind: "soft-prompt", tokens: 1, hidden: new Float32Array(sizes[version as "a"] / 4) }],
      },
    }),
    host: {
      add: async (version) => {
        assert.ok(!taken.has(version), `${version} is added while it is there`);
        taken.add(version);
      },
      remove: async (version) => {
        taken.delete(version);
      },
    },
  });
  const die = () => {
    taken.clear();
    residency.hostLost();
  };
  return { residency, taken, die };
}

test("what was resident is loaded again when it is wanted, and pinned versions at once", async () => {
  const { residency, taken, die } = scene();
  await residency.pin("a");
  (await residency.acquire("b")).release();
  die();
  assert.equal(residency.info("b")!.state, "evicted");
  await settled();
  assert.deepEqual([...taken], ["a"]);
  assert.equal(residency.stats().residentBytes, sizes.a);
  (await residency.acquire("b")).release();
  assert.deepEqual([...taken].sort(), ["a", "b"]);
});

test("a lease from before does not end one from after", async () => {
  const { residency, taken, die } = scene(8);
  const before = await residency.acquire("c");
  die();
  const after = await residency.acquire("c");
  before.release();
  await assert.rejects(
    residency.acquire("a", AbortSignal.timeout(20)), // there is no room while `after` holds its own
    { name: "TimeoutError" },
  );
  assert.deepEqual([...taken], ["c"]);
  after.release();
  (await residency.acquire("a")).release();
  assert.deepEqual([...taken], ["a"]);
});

test("a version that was to leave is gone once its lease is", async () => {
  const { residency, die } = scene();
  const lease = await residency.acquire("a");
  const removed = residency.remove("a");
  die();
  lease.release();
  assert.equal(await removed, true);
  assert.equal(residency.info("a"), undefined);
});

test("whoever waits for room gets it when the host is lost", async () => {
  const { residency, die } = scene(8);
  const lease = await residency.acquire("c");
  const waiting = residency.acquire("a");
  await settled();
  die();
  (await waiting).release();
  lease.release();
});

test("whoever begins anew holds nothing that those in front of it wait for", async () => {
  const slow = Promise.withResolvers<void>();
  const { residency } = residencyScene(sizes, {
    capacityBytes: 8,
    load: async (version) => {
      if (version === "b") await slow.promise;
      const hidden = new Float32Array(sizes[version as "a"] / 4);
      return { adapter: { modules: [{ kind: "soft-prompt", tokens: 1, hidden }] } };
    },
    host: { add: async () => {}, remove: async () => {} },
  });
  const both = residency.acquireAll(["a", "b"], { signal: AbortSignal.timeout(1000) });
  await settled();
  const first = residency.acquire("c", AbortSignal.timeout(1000));
  residency.hostLost();
  slow.resolve();
  (await first).release();
  (await both).release();
});

test("whatever happens between deaths: memory stays within bounds, and at rest everything can be had", async () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant("acquire" as const), version: fc.constantFrom("a", "b", "c") }),
    fc.record({
      kind: fc.constantFrom("pin", "unpin", "release", "die", "wait"),
      version: fc.constantFrom("a", "b"),
    }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const { residency, taken, die } = scene(12);
      const leases: Promise<Lease | null>[] = [];
      const acquire = (version: string) =>
        residency.acquire(version).catch((error: unknown) => {
          assert.equal((error as AdapterError).code, "adapter_cache_pinned"); // a and b may be pinned beside c
          return null;
        });
      for (const { kind, version } of steps) {
        if (kind === "acquire") leases.push(acquire(version));
        else if (kind === "pin") residency.pin(version).catch(() => {});
        else if (kind === "unpin") residency.unpin(version);
        else if (kind === "release") (await Promise.race([leases.shift(), settled()]))?.release();
        else if (kind === "die") die();
        else await settled();
        const heldBytes = [...taken].reduce((sum, name) => sum + sizes[name as "a"], 0);
        assert.ok(heldBytes <= 12);
        assert.ok(residency.stats().residentBytes <= 12);
      }
      for (const lease of leases) void lease.then((one) => one?.release());
      for (const version of ["a", "b"]) residency.unpin(version);
      await settled();
      die();
      await settled();
      assert.equal(residency.stats().residentBytes, 0);
      (await residency.acquire("c")).release();
    }),
    { numRuns: 200 },
  );
});
