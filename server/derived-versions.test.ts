import assert from "node:assert/strict";
import { test } from "node:test";
import { AdapterResidency } from "../adapters-store/residency/residency.ts";
import { DerivedVersions } from "./derived-versions.ts";

const unowned = { owner: null, signal: undefined };

/** Adapters without modules take one byte each. */
function scene({ capacityBytes = 4, maximum = 2, perOwner = 2 } = {}) {
  const made: string[] = [];
  const removed: string[] = [];
  const residency: AdapterResidency = new AdapterResidency({
    capacityBytes,
    load: async (version) => ({ adapter: await (derived.make(version) ?? { modules: [] }) }),
    host: { add: async () => {}, remove: async (version) => void removed.push(version) },
  });
  const derived: DerivedVersions = new DerivedVersions(residency, { inAll: maximum, perOwner });
  const leaseAll = (versions: readonly string[]) => derived.leaseAll(versions, unowned);
  const register = (version: string, parents: readonly string[] = [], owner: string | null = null) =>
    derived.register(version, {
      owner,
      sizeBytes: 1,
      parents,
      make: async () => {
        made.push(version);
        return { modules: [] };
      },
    });
  return { derived, residency, register, leaseAll, made, removed };
}

test("a derived version is made once while it is resident, and again after an eviction", async () => {
  const { leaseAll, register, residency, made } = scene({ capacityBytes: 1 });
  register("ab");
  residency.register("plain", 1);
  for (const version of ["ab", "ab", "plain", "ab"]) (await leaseAll([version])).release();
  assert.deepEqual(made, ["ab", "ab"]);
});

test("the one unused for longest is forgotten, what is used never", async () => {
  const { leaseAll, register, residency, removed } = scene({ maximum: 2 });
  register("a");
  const lease = await leaseAll(["a"]);
  register("b");
  (await leaseAll(["b"])).release();
  register("c");
  await new Promise(setImmediate);
  assert.equal(residency.info("b"), undefined);
  assert.deepEqual(removed, ["b"]);
  const second = await leaseAll(["c"]);
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

test("one owner's are bounded, used or not, and take nobody else's place", async () => {
  const { leaseAll, register, residency } = scene({ capacityBytes: 8, maximum: 4, perOwner: 2 });
  register("theirs", [], "globex");
  for (const version of ["a", "b", "c"]) register(version, [], "acme");
  assert.equal(residency.info("a"), undefined);
  assert.notEqual(residency.info("theirs"), undefined);
  const leases = await Promise.all(["b", "c"].map((version) => leaseAll([version])));
  assert.throws(() => register("d", [], "acme"), { code: "compositions_exhausted" });
  register("also theirs", [], "globex");
  register("e"); // nobody's: bounded in all alone
  assert.equal(residency.info("theirs"), undefined);
  for (const lease of leases) lease.release();
  register("d", [], "acme");
  assert.notEqual(residency.info("also theirs"), undefined);
});

test("a lease that fails holds nothing", async () => {
  const { derived, leaseAll, register } = scene({ maximum: 1 });
  derived.register("bad", {
    owner: null,
    sizeBytes: 1,
    parents: ["p"],
    make: () => Promise.reject(new Error("no")),
  });
  await assert.rejects(leaseAll(["bad"]), /no/);
  await derived.whenUnused("p");
  register("good"); // takes the place of the bad one
  await assert.rejects(leaseAll(["bad"]), { code: "adapter_not_found" });
});

test("a parent is in use until the last lease of what is made from it ends", async () => {
  const { derived, leaseAll, register } = scene();
  register("ab", ["a", "b"]);
  assert.deepEqual(derived.parentsOf("ab"), ["a", "b"]);
  const [first, second] = [await leaseAll(["ab"]), await leaseAll(["ab"])];
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
