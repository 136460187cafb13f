import assert from "node:assert/strict";
import { test } from "node:test";
import { residencyScene, settled } from "./residency-fixture.ts";

/**
 * LOAD prefetches, AHEAD reads ahead, UNLOAD removes for good, FORWARD leases and releases. Memory has room for three
 * adapters of 4 bytes; BIG takes 12 and HUGE 16. What the host is told, or the error, stands behind each step.
 */
const sizes = { A: 4, B: 4, C: 4, D: 4, BIG: 12, HUGE: 16 };
const tables: Record<string, readonly (readonly [step: string, outcome: string])[]> = {
  "the least recently used leaves": [
    ["LOAD A", "+A"],
    ["LOAD B", "+B"],
    ["LOAD C", "+C"],
    ["FORWARD A", ""],
    ["FORWARD D", "-B +D"],
    ["FORWARD C", ""],
    ["FORWARD B", "-A +B"],
    ["LOAD D", ""], // counts as a use
    ["FORWARD A", "-C +A"],
  ],
  "what is read ahead takes nobody's place": [
    ["LOAD A", "+A"],
    ["AHEAD A", "read"],
    ["AHEAD B", "+B"],
    ["AHEAD HUGE", "adapter_larger_than_cache"],
    ["AHEAD BIG", "full"],
    ["AHEAD C", "+C"],
    ["AHEAD D", "full"],
    ["FORWARD D", "-A +D"],
    ["UNLOAD B", "-B"],
    ["AHEAD B", "adapter_not_found"],
    ["AHEAD A", "+A"],
  ],
  "a large one takes the place of several, and they of it": [
    ["LOAD A", "+A"],
    ["LOAD B", "+B"],
    ["FORWARD BIG", "-A -B +BIG"],
    ["FORWARD C", "-BIG +C"],
    ["FORWARD D", "+D"],
  ],
  "pinned ones stay": [
    ["PIN A", "+A"],
    ["FORWARD B", "+B"],
    ["FORWARD C", "+C"],
    ["FORWARD D", "-B +D"],
    ["FORWARD B", "-C +B"],
    ["UNPIN A", ""], // counts as a use
    ["FORWARD C", "-D +C"],
    ["FORWARD D", "-B +D"],
    ["FORWARD B", "-A +B"],
  ],
  "more pins than memory are refused, and so is what they leave no room for": [
    ["PIN A", "+A"],
    ["PIN B", "+B"],
    ["PIN BIG", "adapter_pins_exceed_cache"],
    ["FORWARD BIG", "adapter_cache_pinned"],
    ["LOAD BIG", "false"],
    ["PIN C", "+C"],
    ["PIN A", ""],
    ["PIN D", "adapter_pins_exceed_cache"],
    ["FORWARD D", "adapter_cache_pinned"],
    ["FORWARD A", ""],
    ["UNPIN C", ""],
    ["FORWARD D", "-C +D"],
    ["UNPIN A", ""],
    ["UNPIN B", ""],
    ["FORWARD BIG", "-D -A -B +BIG"],
  ],
  "one larger than memory is refused and moves nobody": [
    ["LOAD A", "+A"],
    ["FORWARD HUGE", "adapter_larger_than_cache"],
    ["LOAD HUGE", "adapter_larger_than_cache"],
    ["PIN HUGE", "adapter_larger_than_cache"],
    ["FORWARD A", ""],
  ],
  "an unloaded one is unknown until it is registered again": [
    ["PIN A", "+A"],
    ["UNLOAD A", "-A"],
    ["FORWARD A", "adapter_not_found"],
    ["PIN A", "adapter_not_found"],
    ["UNLOAD A", ""],
    ["REGISTER A", ""],
    ["FORWARD A", "+A"],
    ["PIN BIG", "-A +BIG"], // the pin went with it
    ["UNLOAD B", ""],
    ["LOAD B", "adapter_not_found"],
  ],
};

for (const [name, steps] of Object.entries(tables)) {
  test(name, async () => {
    const { residency, log, takenBytes } = residencyScene(sizes, { capacityBytes: 12 });
    const verbs: Record<string, (version: string) => unknown> = {
      LOAD: async (version) => ((await residency.prefetch(version)) ? "" : "false"),
      AHEAD: (version) => residency.readAhead(version),
      UNLOAD: (version) => residency.remove(version),
      PIN: (version) => residency.pin(version),
      UNPIN: (version) => residency.unpin(version),
      REGISTER: (version) => residency.register(version, 4),
      FORWARD: async (version) => (await residency.acquire(version)).release(),
    };
    for (const [step, expected] of steps) {
      const [verb, version] = step.split(" ") as [string, string];
      log.length = 0;
      const outcome = await Promise.resolve()
        .then(() => verbs[verb]!(version))
        .then(
          (result) => (typeof result === "string" ? result : ""),
          (error: { code: string }) => error.code,
        );
      const told = log.filter((line) => !line.startsWith("load")).join(" ");
      assert.equal(told || outcome, expected, step);
      assert.equal(residency.stats().residentBytes, takenBytes(), step);
    }
  });
}

test("all who want a version share one load", async () => {
  const { residency, log, pending } = residencyScene({ A: 4 }, { capacityBytes: 4, isManual: true });
  const leases = [
    residency.acquire("A"),
    residency.acquire("A"),
    residency.prefetch("A"),
    residency.pin("A"),
  ];
  await settled();
  pending[0]!.finish();
  await Promise.all(leases);
  assert.deepEqual(log, ["load A", "+A"]);
  const { hits, misses, loads } = residency.stats();
  assert.deepEqual({ hits, misses, loads }, { hits: 0, misses: 2, loads: 1 });
});

test("loads run side by side up to the limit, the rest in order", async () => {
  const scene = residencyScene(sizes, { capacityBytes: 12, isManual: true, concurrentLoads: 2 });
  const { residency, log, pending } = scene;
  const leases = ["A", "B", "C"].map((version) => residency.acquire(version));
  await settled();
  assert.deepEqual(log, ["load A", "load B"]);
  assert.equal(residency.stats().residentBytes, 12); // set aside before it is read
  pending[1]!.finish();
  await leases[1];
  await settled();
  assert.deepEqual(log, ["load A", "load B", "+B", "load C"]);
});

test("a prefetch waits for what is read ahead, which leaves for it unless somebody has come to want it", async () => {
  for (const isWanted of [false, true]) {
    const { residency, log, pending } = residencyScene(sizes, { capacityBytes: 12, isManual: true });
    const ahead = residency.readAhead("BIG");
    const prefetched = residency.prefetch("A");
    const wanting = isWanted ? residency.acquire("BIG") : null;
    await settled();
    assert.deepEqual(log, ["load BIG"]);
    while (pending.length > 0) {
      pending[0]!.finish();
      await settled();
    }
    assert.equal(await ahead, "read");
    assert.equal(await prefetched, !isWanted);
    assert.deepEqual(log.slice(1), isWanted ? ["+BIG"] : ["+BIG", "-BIG", "load A", "+A"]);
    (await wanting)?.release();
  }
});

test("a failed load is reported to all who wait for it, and tried again by the next", async () => {
  const { residency, pending, takenBytes } = residencyScene({ A: 4 }, { capacityBytes: 4, isManual: true });
  const waiting = [residency.acquire("A"), residency.acquire("A"), residency.pin("A")];
  await settled();
  pending[0]!.finish(new Error("unreadable"));
  for (const lease of waiting) await assert.rejects(lease, /unreadable/);
  assert.equal(residency.info("A")?.state, "registered");
  assert.deepEqual([residency.stats().pinnedBytes, residency.stats().residentBytes, takenBytes()], [0, 0, 0]);
  const again = residency.acquire("A");
  await settled();
  pending[0]!.finish();
  (await again).release();
  assert.deepEqual([residency.stats().loads, residency.stats().loadFailures], [1, 1]);
});

test("who needs memory that is in use waits for a release, and nothing leaves in vain", async () => {
  const { residency, log } = residencyScene(sizes, { capacityBytes: 12 });
  const [a, b] = [await residency.acquire("A"), await residency.acquire("B")];
  (await residency.acquire("C")).release();
  const big = residency.acquire("BIG");
  const c = await residency.acquire("C"); // still there
  assert.equal(residency.stats().waiting, 1);
  a.release();
  c.release();
  await settled();
  assert.equal(log.includes("-A"), false);
  b.release();
  b.release();
  (await big).release();
  assert.deepEqual(log.slice(-5), ["-A", "-C", "-B", "load BIG", "+BIG"]);
});

test("an end to the wait of the first lets the next one in, and an unpinned version makes room", async () => {
  const { residency, log } = residencyScene({ ...sizes, E: 8 }, { capacityBytes: 12 });
  await residency.pin("A");
  const b = await residency.acquire("B");
  const leaving = new AbortController();
  const first = residency.acquire("E", leaving.signal);
  const next = residency.acquire("C"); // there is room for it, but not its turn
  await settled();
  assert.equal(residency.stats().waiting, 2);
  leaving.abort();
  await assert.rejects(first);
  (await next).release();
  const again = residency.acquire("E");
  await settled();
  assert.equal(residency.stats().waiting, 1);
  residency.unpin("A");
  (await again).release();
  assert.deepEqual(log.slice(-4), ["-C", "-A", "load E", "+E"]);
  b.release();
});

test("what a set has already is not evicted for what it misses", async () => {
  const { residency, log } = residencyScene(sizes, { capacityBytes: 8 });
  for (const version of ["A", "B"]) (await residency.acquire(version)).release();
  (await residency.acquireAll(["C", "A"])).release();
  assert.deepEqual(log.slice(-3), ["-B", "load C", "+C"]);
});

test("a stream of hits does not keep others out for ever; pinned versions may go on", async () => {
  let nowMs = 0;
  const now = () => nowMs;
  const { residency } = residencyScene(sizes, { capacityBytes: 12, now, patienceMs: 100 });
  await residency.pin("A");
  const [b, c] = [await residency.acquire("B"), await residency.acquire("C")];
  const d = residency.acquire("D");
  nowMs = 100;
  (await residency.acquire("B")).release(); // passes
  nowMs = 101;
  const order: string[] = [];
  const late = residency.acquire("B").then(() => order.push("late"));
  await residency.acquire("A"); // passes all the same
  void d.then(() => order.push("D"));
  await settled();
  assert.deepEqual(order, []); // B would have been leased at once
  c.release();
  await Promise.all([d, late]);
  b.release();
});

test("sets of versions are leased together: two crossing ones do not wait for each other", async () => {
  const { residency } = residencyScene(sizes, { capacityBytes: 8 });
  const forward = async (versions: string[]) => {
    const lease = await residency.acquireAll(versions);
    for (const version of versions) assert.equal(residency.info(version)?.state, "resident");
    await settled();
    lease.release();
  };
  await Promise.all([forward(["A", "B"]), forward(["B", "C"]), forward(["C", "A"]), forward(["B", "B"])]);
  await assert.rejects(residency.acquireAll(["A", "B", "C"]), { code: "adapter_larger_than_cache" });
});

test("the queue is bounded, and hits need no place in it", async () => {
  const { residency } = residencyScene(sizes, { capacityBytes: 4, maxWaiting: 2 });
  const held = await residency.acquire("A");
  const waiting = [residency.acquire("B"), residency.acquire("C")];
  await assert.rejects(residency.acquire("D"), { code: "adapter_cache_busy" });
  (await residency.acquire("A")).release();
  held.release();
  for (const lease of waiting) (await lease).release();
});

test("what is told of versions: how often they were wanted and read, and which were used last", async () => {
  const loaded: number[] = [];
  const onLoaded = ({ seconds, sizeBytes }: { seconds: number; sizeBytes: number }) => {
    assert.ok(seconds >= 0 && seconds < 10);
    loaded.push(sizeBytes);
  };
  const { residency } = residencyScene(sizes, { capacityBytes: 12, onLoaded });
  const startMs = Date.now();
  for (const version of ["A", "B", "C", "D", "B", "B"]) {
    (await residency.acquire(version)).release();
    await new Promise((resolve) => setTimeout(resolve, 2)); // lastUsedMs is whole milliseconds
  }
  const { hits, misses, loads, lastUsedMs, state } = residency.info("B")!;
  assert.deepEqual([hits, misses, loads, state], [2, 1, 1, "resident"]);
  assert.ok(lastUsedMs! >= startMs - 1 && lastUsedMs! <= Date.now() + 1);
  assert.equal(residency.info("A")?.state, "evicted");
  const recent = residency.recent(2).map(({ version }) => version);
  assert.deepEqual(recent, ["B", "D"]);
  assert.deepEqual(loaded, [4, 4, 4, 4]);
  assert.equal(residency.stats().evictions, 1);
});

test("an aborted request leaves the queue, and its load serves the next", async () => {
  const { residency, log, pending } = residencyScene(sizes, { capacityBytes: 4, isManual: true });
  const leaving = new AbortController();
  const loading = residency.acquire("A", leaving.signal);
  const queued = residency.acquire("B", leaving.signal);
  await settled();
  leaving.abort(new Error("gone"));
  for (const lease of [loading, queued]) await assert.rejects(lease, /gone/);
  await assert.rejects(residency.acquire("A", leaving.signal), /gone/);
  assert.equal(residency.stats().waiting, 0);
  pending[0]!.finish();
  await settled();
  (await residency.acquire("A")).release();
  assert.deepEqual(log, ["load A", "+A"]);
});

test("a removed version serves its leases first; registered again meanwhile, it stays", async () => {
  const { residency, log } = residencyScene(sizes, { capacityBytes: 12 });
  const first = await residency.acquire("A");
  const removal = residency.remove("A");
  assert.equal(residency.info("A")?.state, "draining");
  await assert.rejects(residency.acquire("A"), { code: "adapter_not_found" });
  residency.register("A", 4);
  assert.equal(await removal, false);
  const second = await residency.acquire("A");
  const again = residency.remove("A");
  first.release();
  await settled();
  assert.deepEqual(log, ["load A", "+A"]);
  second.release();
  assert.equal(await again, true);
  assert.equal(log.at(-1), "-A");
  assert.equal(residency.info("A"), undefined);
});

test("a removed version is loaded for those who waited for it, and for nobody else", async () => {
  const { residency, log, pending } = residencyScene(sizes, { capacityBytes: 4, isManual: true });
  const finish = async () => {
    pending[0]!.finish();
    await settled();
  };
  const loading = residency.acquire("A");
  const queued = residency.acquire("B");
  const leaving = new AbortController();
  const aborted = residency.acquire("C", leaving.signal);
  await settled();
  const removals = ["A", "B", "C"].map((version) => residency.remove(version));
  for (const version of ["A", "B", "C"])
    await assert.rejects(residency.acquire(version), { code: "adapter_not_found" });
  leaving.abort(new Error("gone"));
  await assert.rejects(aborted, /gone/);
  assert.equal(await removals[2], true);
  await finish(); // A is loaded
  (await loading).release();
  await finish(); // and gone
  assert.equal(await removals[0], true);
  await finish(); // B is loaded
  (await queued).release();
  await finish();
  assert.equal(await removals[1], true);
  assert.deepEqual(log, ["load A", "+A", "-A", "load B", "+B", "-B"]);
  assert.equal(residency.stats().residentBytes, 0);
  assert.equal(residency.stats().registered, 3);
});

test("who waits for a version that leaves while others use it shares it with them", async () => {
  const { residency, log, pending } = residencyScene(sizes, { capacityBytes: 8, isManual: true });
  const a = residency.acquire("A");
  await settled();
  pending[0]!.finish();
  const used = await a;
  const both = residency.acquireAll(["A", "B"]);
  await settled();
  const removal = residency.remove("A");
  pending[0]!.finish(); // B is loaded
  const lease = await both;
  used.release();
  assert.deepEqual(log, ["load A", "+A", "load B", "+B"]);
  lease.release();
  await settled();
  pending[0]!.finish();
  assert.equal(await removal, true);
  assert.equal(log.at(-1), "-A");
});

test("one that decodes to more than was declared counts as what it is", async () => {
  const scene = residencyScene(sizes, { capacityBytes: 12 });
  const { residency, log } = scene;
  scene.sizes.set("B", 8);
  const held = await residency.acquire("A");
  (await residency.acquire("C")).release();
  await assert.rejects(residency.acquire("B"), { code: "adapter_size_changed" });
  (await residency.acquire("B")).release();
  assert.deepEqual(log.slice(-4), ["load B", "-C", "load B", "+B"]);
  assert.equal(residency.stats().residentBytes, 12);
  held.release();
});

test("a host that cannot let go keeps its bytes counted, and nobody waits for them in vain", async () => {
  const { residency, pending } = residencyScene(sizes, { capacityBytes: 4, isManual: true });
  const a = residency.acquire("A");
  await settled();
  pending[0]!.finish();
  (await a).release();
  const b = residency.acquire("B");
  await settled();
  pending[0]!.finish(new Error("the engine died"));
  await assert.rejects(b, /the engine died/);
  assert.deepEqual(residency.info("A")?.state, "resident");
  assert.equal(residency.stats().residentBytes, 4);
});
