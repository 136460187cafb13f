import assert from "node:assert/strict";
import { test } from "node:test";
import { ServiceCounters } from "./service-counters.ts";

const party = (id: string, adapterVersion: string | null = null, weight = 1) => ({
  tenant: { id, weight, rowsAtOnce: null },
  adapterVersion,
});

const output = (outputTokens: number) => ({ inputTokens: 0, outputTokens });
const served = (counters: ServiceCounters, id: string) => counters.snapshot().get(id)!.served;

test("prompt tokens cost one, generated ones two, over the tenant's weight", () => {
  const counters = new ServiceCounters();
  counters.arrive(party("one"));
  counters.arrive(party("two", null, 4));
  for (const who of [party("one"), party("two", null, 4)]) {
    counters.charge(who, { inputTokens: 10, outputTokens: 5 });
  }
  assert.equal(served(counters, "one"), 20);
  assert.equal(served(counters, "two"), 5);
});

test("who returns from idling is lifted to the least of those who wait, and never lowered", () => {
  const counters = new ServiceCounters();
  for (const id of ["busy", "other", "heavy"]) counters.arrive(party(id));
  counters.charge(party("busy"), output(100));
  counters.charge(party("other"), output(70));
  counters.charge(party("heavy"), output(500));
  counters.stopWaiting(party("heavy"));
  counters.leave(party("heavy"));
  counters.arrive(party("idle"));
  assert.equal(served(counters, "idle"), 140);
  counters.arrive(party("heavy"));
  assert.equal(served(counters, "heavy"), 1000);
});

test("where nobody waits, the lift is to whoever waited last, so that no credit is kept", () => {
  const counters = new ServiceCounters();
  counters.arrive(party("busy"));
  counters.charge(party("busy"), output(100));
  counters.stopWaiting(party("busy"));
  counters.arrive(party("idle"));
  assert.equal(served(counters, "idle"), 200);
});

test("a tenant's adapters have counters of their own, which go when its last sequence does", () => {
  const counters = new ServiceCounters();
  counters.arrive(party("one", "a"));
  counters.arrive(party("one", "b"));
  counters.charge(party("one", "a"), output(3));
  const byAdapter = () => [...counters.snapshot().get("one")!.servedByAdapter];
  assert.deepEqual(byAdapter(), [
    ["a", 6],
    ["b", 0],
  ]);
  for (const version of ["a", "b"]) {
    counters.stopWaiting(party("one", version));
    counters.leave(party("one", version));
  }
  assert.equal(counters.snapshot().size, 0);
  counters.arrive(party("one", "c"));
  assert.deepEqual(byAdapter(), [["c", 0]]);
});

test("a tenant that never idles keeps no counter of adapters that it has left", () => {
  const counters = new ServiceCounters();
  counters.arrive(party("one", "stays"));
  for (let index = 0; index < 100; index++) {
    const passing = party("one", `composition ${index}`);
    counters.arrive(passing);
    counters.charge(party("one", "stays"), output(1));
    counters.stopWaiting(passing);
    counters.leave(passing);
  }
  assert.deepEqual([...counters.snapshot().get("one")!.servedByAdapter], [["stays", 200]]);
});

test("who is being served keeps its counter, however low, when others leave", () => {
  const counters = new ServiceCounters();
  for (const id of ["served", "waiting", "leaving"]) counters.arrive(party(id));
  counters.charge(party("waiting"), output(50));
  counters.charge(party("served"), output(10));
  counters.stopWaiting(party("served"));
  counters.stopWaiting(party("leaving"));
  counters.leave(party("leaving"));
  counters.charge(party("served"), output(100));
  assert.equal(served(counters, "served"), 220);
});

test("two tenants that always wait are served alike whatever their requests cost; weights split the service", () => {
  const counters = new ServiceCounters();
  const tenants = [party("small"), party("large"), party("double", null, 2)];
  const cost: Record<string, number> = { small: 1, large: 40, double: 7 };
  const total: Record<string, number> = { small: 0, large: 0, double: 0 };
  for (const who of tenants) counters.arrive(who);
  for (let turn = 0; turn < 3000; turn++) {
    const next = tenants.reduce((least, who) =>
      served(counters, who.tenant.id) < served(counters, least.tenant.id) ? who : least,
    );
    const { id } = next.tenant;
    counters.charge(next, output(cost[id]!));
    total[id]! += cost[id]!;
  }
  assert.ok(Math.abs(total.small! - total.large!) <= 40, JSON.stringify(total));
  assert.ok(Math.abs(total.double! - 2 * total.large!) <= 2 * 40 + 7, JSON.stringify(total));
});
