import assert from "node:assert/strict";
import { test } from "node:test";
import { AdapterResidency } from "../adapters-store/residency/residency.ts";
import { DerivedVersions } from "./derived-versions.ts";

/** Adapters without modules take one byte each. */
function scene({ capacityBytes = 4, maximum = 2 } = {}) {
  const made: string[] = [];
  const removed: string[] = [];
  const residency: AdapterResidency = new AdapterResidency({
    capacityBytes,
    load: async (version) => ({ adapter: await (derived.make(version) ?? { modules: [] }) }),
    host: { add: async () => {}, remove: async (version) => void removed.push(version) },
  });
  const derived: DerivedVersions = new DerivedVersions(residency, maximum);
  const register = (version: string, parents: readonly string[] = []) =>
    derived.register(version, {
      sizeBytes: 1,
      parents,
      make: async () => {
        made.push(version);
        return { modules: [] };
      },
    });
  return { derived, residency, register, made, removed };
}

test("a derived version is made once while it is resident, and again after an eviction", async () => {
  const { derived, register, residency, made } = scene({ capacityBytes: 1 });
  register("ab");
  residency.register("plain", 1);
  for (const version of ["ab", "ab", "plain", "ab"]) (await derived.leaseAll([version])).release();
  assert.deepEqual(made, ["ab", "ab"]);
});

test("the one unused for longest is forgotten, what is used never", async () => {
  const { derived, register, residency, removed } = scene({ maximum: 2 });
  register("a");
  const lease = await derived.leaseAll(["a"]);
  register("b");
  (await derived.leaseAll(["b"])).release();
  register("c");
  await new Promise(setImmediate);
  assert.equal(residency.info("b"), undefined);
  assert.deepEqual(removed, ["b"]);
  const second = await derived.leaseAll(["c"]);
  assert.throws(() => register("d"), { code: "compositions_exhausted" });
  lease.release();
  lease.release(); // counts once
  register("d");
  await new Promise(setImmediate);
  assert.equal(residency.info("a"), undefined);
  assert.equal(residency.info("c")?.leases, 1);
  second.release();
});

test("registering again makes it the last to be forgotten", () => {
  const { register, residency } = scene({ maximum: 2 });
  for (const version of ["a", "b", "a", "c"]) register(version);
  assert.equal(residency.info("b"), undefined);
  assert.notEqual(residency.info("a"), undefined);
});

test("a lease that fails holds nothing", async () => {
  const { derived, register } = scene({ maximum: 1 });
  derived.register("bad", { sizeBytes: 1, parents: ["p"], make: () => Promise.reject(new Error("no")) });
  await assert.rejects(derived.leaseAll(["bad"]), /no/);
  await derived.whenUnused("p");
  register("good"); // takes the place of the bad one
  await assert.rejects(derived.leaseAll(["bad"]), { code: "adapter_not_found" });
});

test("a parent is in use until the last lease of what is made from it ends", async () => {
  const { derived, register } = scene();
  register("ab", ["a", "b"]);
  assert.deepEqual(derived.parentsOf("ab"), ["a", "b"]);
  const [first, second] = [await derived.leaseAll(["ab"]), await derived.leaseAll(["ab"])];
  let isUnused = false;
  const waiting = derived.whenUnused("a").then(() => {
    isUnused = true;
  });
  first.release();
  await new Promise(setImmediate);
  assert.equal(isUnused, false);
  second.release();
  await waiting;
  await derived.whenUnused("unknown");
});
