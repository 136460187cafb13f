import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { residencyScene } from "../adapters-store/residency/residency-fixture.ts";
import { until } from "../tests/until.ts";
import { readAhead } from "./read-ahead.ts";
import type { ReadinessState } from "./readiness.ts";

const sizes = { a: 4, b: 4, c: 4, d: 4 };
const adapters = Object.keys(sizes).map((version) => ({ id: `id-${version}`, version }));

/** Reading has begun, of a scene whose loads end when the test says so. */
function scene(capacityBytes: number, state: ReadinessState<null>["name"] = "ready") {
  const readiness = { state: { name: state } as ReadinessState<null> };
  const logged: string[] = [];
  const note = (fields: object, text: string) => void logged.push(`${JSON.stringify(fields)} ${text}`);
  const memory = residencyScene(sizes, { capacityBytes, isManual: true });
  const logger = { info: note, error: note } as Parameters<typeof readAhead>[1]["logger"];
  const ended = readAhead(adapters, { residency: memory.residency, readiness, logger });
  return { ...memory, readiness, logged, ended };
}

test("one at a time, in order, until memory is full; nothing leaves it", async () => {
  const { log, pending, ended, logged, residency } = scene(12);
  for (const version of ["a", "b", "c"]) {
    await until(() => pending.length > 0);
    assert.deepEqual(
      pending.map((load) => load.version),
      [version],
    );
    pending[0]!.finish();
  }
  await ended;
  assert.deepEqual(log, ["load a", "+a", "load b", "+b", "load c", "+c"]);
  assert.equal(logged.length, 1);
  assert.match(logged[0]!, /"left":1.*full/);
  const { hits, misses, evictions } = residency.stats();
  assert.deepEqual({ hits, misses, evictions }, { hits: 0, misses: 0, evictions: 0 }); // nobody wanted them
});

test("one that cannot be read is logged, and the next one is read", async () => {
  const { pending, ended, logged, inHost } = scene(16);
  for (const { version } of adapters) {
    await until(() => pending[0]?.version === version);
    pending[0]!.finish(version === "b" ? new Error("unreadable") : undefined);
  }
  await ended;
  assert.deepEqual([...inHost], ["a", "c", "d"]);
  assert.equal(logged.length, 1);
  assert.match(logged[0]!, /"adapter":"id-b".*could not be read ahead/);
});

test("requests' own loads come first, and what they read is not read again", async () => {
  const { residency, log, pending, ended } = scene(16);
  await until(() => pending.length === 1);
  const leases = ["d", "c"].map((version) => residency.acquire(version));
  await until(() => pending.length === 2); // the other of two loads at once
  pending[0]!.finish(); // a
  await until(() => pending.length === 2);
  await delay(150);
  assert.deepEqual(log, ["load a", "load d", "+a", "load c"]);
  while (pending.length > 0) pending[0]!.finish();
  for (const lease of leases) (await lease).release();
  await until(() => pending.length === 1);
  pending[0]!.finish();
  await ended;
  assert.deepEqual(log.slice(-2), ["load b", "+b"]);
});

test("nothing is read before the server is ready or while its engine starts again, nor once it closes", async () => {
  const { readiness, log, pending, ended, logged } = scene(16, "restarting");
  await delay(100);
  assert.deepEqual(log, []);
  readiness.state = { name: "ready", serving: null };
  await until(() => pending.length === 1);
  readiness.state = { name: "closing" };
  pending[0]!.finish(new Error("the engine has closed"));
  await ended;
  assert.deepEqual(log, ["load a"]);
  assert.deepEqual(logged, []);
});
