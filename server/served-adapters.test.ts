import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { fixtureTargets } from "../adapters-store/peft-fixture.ts";
import type { AdapterSource, StoredAdapter } from "../adapters-store/store.ts";
import { idleStats, type ServedModel } from "../scheduler/protocol.ts";
import { type ReservedRoom, ServedAdapters } from "./served-adapters.ts";
import { openToAll } from "./tenancy/keyring.ts";
import { noQuotas, type Tenant } from "./tenancy/tenant.ts";

const fileBytes = 40; // of every version
const source: AdapterSource = { kind: "directory", path: "/nowhere" };

const tenantOf = (id: string, quotas: Partial<Tenant["quotas"]> = {}): Tenant => ({
  id,
  weight: 1,
  role: "manage",
  quotas: { ...noQuotas, ...quotas },
});
const acme = tenantOf("acme");
const globex = tenantOf("globex");

const settled = <T>(value: T) => nextTurn().then(() => value);

const elsewhere = () => {
  throw new Error("tests/server/adapters.test.ts has it, with the real store");
};
const storeOfOtherTests = {
  delete: elsewhere,
  deleteVersion: elsewhere,
  expire: elsewhere,
  list: elsewhere,
  moveAlias: elsewhere,
  setPinned: elsewhere,
  versions: elsewhere,
};

/** A store whose next upload has the given version, and an engine that notes what it is told. */
function scene(reserved: ReservedRoom = { adapters: 0, sizeBytes: 0 }, hostCacheBytes = 2) {
  const told: string[] = [];
  const stored = new Map<string, StoredAdapter>();
  const histories = new Map<string, Set<string>>(); // of uploads, by the same key
  const decoding: Record<string, Promise<void>> = {}; // what decoding a version has to wait for
  let version = "v1";
  let decodedBytes = 0;
  const statedBase = "elsewhere/other";
  let failure: Error | null = null;
  const forgotten: string[] = [];
  const reported: string[] = [];
  const adapters = new ServedAdapters({
    baseName: "base",
    store: {
      add: async ({ owner, id, check, ready }) => {
        const added = versionOf(owner, id, version);
        const found = { version, summary: { ...summary, decodedBytes }, statedBase };
        check?.(found);
        await ready?.(found);
        const name = `${owner} ${id}`;
        stored.set(name, added);
        histories.set(name, (histories.get(name) ?? new Set()).add(added.version));
        if (failure !== null) throw failure;
        return added;
      },
      get: ({ owner, id }) => stored.get(`${owner} ${id}`),
      find: ({ owner, id }) => stored.get(`${owner} ${id}`),
      usage: (owner) => {
        const adapters = [...stored.values()].filter((each) => each.owner === owner).length;
        return { adapters, versions: adapters, sizeBytes: fileBytes * adapters };
      },
      decode: async (wanted) => {
        await decoding[wanted];
        return { modules: [] };
      },
      hasVersion: (owner, wanted) =>
        [...stored.values()].some((each) => each.owner === owner && each.version === wanted),
      isNamed: (wanted) =>
        [...stored].some(([name, { version }]) => version === wanted || histories.get(name)?.has(wanted)),
      forget: async (forgot) => forgotten.push(forgot) > 0,
      ...storeOfOtherTests,
    },
    onError: (error, what) => void reported.push(`${what}: ${error}`),
    reserved: () => reserved,
    hostCacheBytes, // an adapter of no modules takes one byte
    engine: {
      model: { targets: fixtureTargets } as ServedModel,
      stats: { ...idleStats, residentAdapters: ["on device"] },
      addAdapter: async (added) => void told.push(`+${added}`),
      removeAdapter: async (removed) => void told.push(`-${removed}`),
    },
  });
  const upload = (id: string, next: string, tenant = acme, sizeBytes = 0) => {
    version = next;
    decodedBytes = sizeBytes;
    return adapters.of(tenant).add({ id, source });
  };
  const moveInStore = (id: string, next: string) => {
    stored.set(`acme ${id}`, versionOf("acme", id, next));
    histories.delete(`acme ${id}`);
  };
  const fail = (error: Error) => {
    failure = error;
  };
  return { adapters, told, upload, stored, moveInStore, decoding, forgotten, fail, reported };
}

const summary: StoredAdapter["summary"] = {
  kinds: [],
  ranks: null,
  modulesMatched: { count: 0, names: [] },
  modulesUnmatched: [],
  sizeBytes: fileBytes,
  decodedBytes: 0,
};

function versionOf(owner: string, id: string, version: string, shared = false): StoredAdapter {
  const adapter: Partial<StoredAdapter> = {
    owner,
    id,
    version,
    shared,
    pinned: false,
    expiresAtMs: null,
    createdAtMs: 0,
    location: "/nowhere",
    summary,
  };
  return adapter as StoredAdapter;
}

test("a name moves to its new version; the former one stays known to those who resolved it", async () => {
  const { adapters, told, upload } = scene();
  await upload("a", "v1");
  await upload("a", "v2");
  assert.deepEqual(told, ["+v1", "+v2"]);
  const view = adapters.of(acme);
  assert.equal(view.get("a")?.version, "v2");
  assert.deepEqual(adapters.namesOf("v1"), []);
  (await view.lease(["v1"])).release();
});

test("versions under lease stay, and the least recently used of the others leaves", async () => {
  const { adapters, told, upload } = scene();
  await upload("a", "v1");
  await upload("a", "v2");
  const inFlight = await adapters.of(acme).lease(["v1"]);
  await upload("a", "v3");
  assert.deepEqual(told, ["+v1", "+v2", "-v2", "+v3"]);
  inFlight.release();
  await upload("a", "v4");
  assert.deepEqual(told.slice(4), ["-v3", "+v4"]);
});

test("two names of one version load it once", async () => {
  const { adapters, told, upload } = scene();
  await upload("a", "v1", acme);
  await upload("b", "v1", globex);
  assert.deepEqual(adapters.namesOf("v1"), ["a", "b"]);
  assert.deepEqual(told, ["+v1"]);
});

test("what the store has is known at once and read when it is wanted", async () => {
  const { adapters, told } = scene();
  for (let index = 0; index < 100; index++) adapters.serve(versionOf("acme", `a${index}`, `v${index}`));
  const view = adapters.of(acme);
  assert.equal(view.list().length, 100);
  assert.deepEqual(told, []);
  assert.equal(adapters.residencyOf("v7")?.tier, "store");
  (await view.lease(["v7"])).release();
  assert.deepEqual(told, ["+v7"]);
  assert.equal(adapters.residencyOf("v7")?.tier, "host");
  adapters.serve(versionOf("acme", "d", "on device"));
  assert.equal(adapters.residencyOf("on device")?.tier, "device");
  for (let use = 0; use < 2; use++) (await view.lease(["on device"])).release();
  assert.equal(adapters.deviceHits, 1); // the first one had to be read
  assert.equal(adapters.residencyOf("v100"), undefined);
});

test("a name ends where the store has it, in whatever order its versions are read", async () => {
  const { adapters, moveInStore, decoding } = scene();
  const slow = Promise.withResolvers<void>();
  decoding.v1 = slow.promise;
  moveInStore("a", "v1");
  const first = adapters.refresh({ owner: "acme", id: "a" });
  moveInStore("a", "v2");
  await adapters.refresh({ owner: "acme", id: "a" });
  slow.resolve();
  await first;
  assert.equal(adapters.of(acme).get("a")?.version, "v2");
});

test("a name stays where it is while its new version is read, and where that fails", async () => {
  const { adapters, stored, upload, decoding, forgotten } = scene();
  await upload("a", "v1");
  const reading = Promise.withResolvers<void>();
  decoding.v2 = reading.promise;
  const uploaded = upload("a", "v2");
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(adapters.of(acme).get("a")?.version, "v1");
  reading.reject(new Error("unreadable"));
  await assert.rejects(uploaded, /unreadable/);
  assert.equal(adapters.of(acme).get("a")?.version, "v1");
  assert.equal(stored.get("acme a")?.version, "v1");
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(forgotten, ["v2"]);
});

test("what could never be in memory is not published", async () => {
  const { adapters, stored, upload } = scene();
  await assert.rejects(upload("a", "v1", acme, 3), { code: "adapter_larger_than_cache" });
  assert.equal(stored.size, 0);
  assert.equal(adapters.of(acme).get("a"), undefined);
});

test("a name that the store has no more is not served", async () => {
  const { adapters, upload, stored } = scene();
  await upload("a", "v1");
  stored.delete("acme a");
  await adapters.refresh({ owner: "acme", id: "a" });
  assert.equal(adapters.of(acme).get("a"), undefined);
});

test("the same upload again changes nothing", async () => {
  const { told, upload } = scene();
  await Promise.all([upload("a", "v1"), upload("a", "v1")]);
  assert.deepEqual(told, ["+v1"]);
});

test("an upload that is being read is not ended by who deleted the version's last name", async () => {
  const { adapters, decoding, forgotten, upload } = scene();
  const read = Promise.withResolvers<void>();
  decoding.v1 = read.promise;
  const uploading = upload("again", "v1");
  await nextTurn();
  adapters.retire(["v1"]);
  await nextTurn();
  read.resolve();
  await uploading;
  assert.equal(adapters.of(acme).get("again")?.version, "v1");
  assert.deepEqual(forgotten, []);
});

test("the base's name is taken", async () => {
  const { upload } = scene();
  await assert.rejects(upload("base", "v1"), { code: "adapter_id_taken" });
});

test("one id of two tenants is two adapters, and each sees its own only", async () => {
  const { adapters, upload } = scene();
  await upload("a", "v1", acme);
  assert.equal(adapters.of(globex).get("a"), undefined);
  assert.deepEqual(adapters.of(globex).list(), []);
  await upload("a", "v2", globex);
  assert.equal(adapters.of(acme).get("a")?.version, "v1");
  assert.equal(adapters.of(globex).get("a")?.version, "v2");
});

test("shared adapters are everybody's, and a tenant's own of the same id comes first", async () => {
  const { adapters, upload } = scene();
  adapters.serve(versionOf("default", "s", "v1", true));
  await upload("s", "v2", acme);
  assert.equal(adapters.of(acme).get("s")?.version, "v2");
  assert.equal(adapters.of(globex).get("s")?.version, "v1");
  assert.deepEqual(
    adapters
      .of(acme)
      .list()
      .map(({ version }) => version),
    ["v2"],
  );
});

test("the quota of adapters holds for uploads side by side, and lets a name move", async () => {
  const { adapters } = scene();
  const view = adapters.of(tenantOf("acme", { adapters: 2 }));
  const uploads = await Promise.allSettled(["a", "b", "c"].map((id) => view.add({ id, source })));
  assert.deepEqual(
    uploads.map(({ status }) => status),
    ["fulfilled", "fulfilled", "rejected"],
  );
  await view.add({ id: "a", source });
  await assert.rejects(view.add({ id: "d", source }), { code: "quota_exceeded" });
});

test("room that is reserved is nobody's but the result's that it is kept for", async () => {
  const names = scene({ adapters: 2, sizeBytes: 0 }).adapters.of(tenantOf("acme", { adapters: 3 }));
  names.checkRoom(0);
  await names.add({ id: "a", source });
  assert.throws(() => names.checkRoom(0), { code: "quota_exceeded" });
  await assert.rejects(names.add({ id: "b", source }), { code: "quota_exceeded" });
  await names.add({ id: "b", source, reservedBytes: 0 });

  const quota = tenantOf("acme", { storedBytes: 2 * fileBytes });
  const bytes = scene({ adapters: 1, sizeBytes: fileBytes });
  await bytes.upload("a", "v1", quota);
  assert.throws(() => bytes.adapters.of(quota).checkRoom(1), { code: "quota_exceeded" });
  await assert.rejects(bytes.upload("b", "v2", quota), { code: "quota_exceeded" });
  await bytes.adapters.of(quota).add({ id: "b", source, reservedBytes: fileBytes });
  assert.throws(() => scene().adapters.of(acme).checkRoom(3), { code: "adapter_larger_than_cache" });
});

test("a held version's files stay without a name until the last job lets go of it", async () => {
  const { adapters, upload, stored, forgotten } = scene();
  await upload("a", "v1");
  const ends = ["one", "two"].map((jobId) => adapters.hold("v1", { tenantId: "acme", jobId }));
  stored.clear();
  await adapters.refresh({ owner: "acme", id: "a" });
  adapters.retire(["v1"]);
  await nextTurn();
  ends[0]!();
  await nextTurn();
  assert.deepEqual(forgotten, []);
  ends[1]!();
  await nextTurn();
  assert.deepEqual(forgotten, ["v1"]);
  await upload("a", "v2");
  adapters.hold("v2", { tenantId: "acme", jobId: "one" })();
  await nextTurn();
  assert.deepEqual(forgotten, ["v1"]); // a name has it
});

test("a version leaves only once no name means it any more, where the store's name has moved already", async () => {
  const { adapters, upload, moveInStore, decoding, forgotten } = scene();
  await upload("a", "v1");
  const reading = Promise.withResolvers<void>();
  decoding.v2 = reading.promise;
  moveInStore("a", "v2");
  const moving = adapters.refresh({ owner: "acme", id: "a" });
  adapters.retire(["v1"]); // as whoever removes the version's last other name does
  await nextTurn();
  const { version } = adapters.of(acme).get("a")!;
  const lease = await adapters.of(acme).lease([version]);
  reading.resolve();
  await moving;
  await nextTurn();
  assert.equal(version, "v1");
  assert.deepEqual(forgotten, []);
  lease.release();
  await nextTurn();
  assert.deepEqual(forgotten, ["v1"]);
});

test("the quota of bytes counts what is stored and what comes, and what is there already once", async () => {
  const { adapters, upload } = scene();
  const tenant = (storedBytes: number) => tenantOf("acme", { storedBytes });
  await upload("a", "v1", tenant(fileBytes));
  await assert.rejects(upload("b", "v2", tenant(2 * fileBytes - 1)), { code: "quota_exceeded" });
  await upload("b", "v1", tenant(fileBytes));
  await upload("c", "v2", tenant(3 * fileBytes));
  assert.equal(adapters.of(acme).get("c")?.version, "v2");
});

test("a change that the store made and then failed is served as the store has it", async () => {
  const { adapters, stored, upload, fail } = scene();
  await upload("a", "v1");
  fail(new Error("the answer was lost"));
  await assert.rejects(upload("a", "v2"), /the answer was lost/);
  assert.equal(stored.get("acme a")?.version, "v2");
  assert.equal(adapters.of(acme).get("a")?.version, "v2");
});

test("a name that cannot be served now is reported, and the others are served", async () => {
  const { adapters, stored, decoding, reported } = scene();
  decoding.bad = Promise.reject(new Error("unreadable"));
  const names = ["a", "b"].map((id) => ({ owner: "acme", id }));
  await adapters.changing(names, async () => {
    stored.set("acme a", { ...versionOf("acme", "a", "bad"), pinned: true });
    stored.set("acme b", versionOf("acme", "b", "good"));
  });
  assert.equal(adapters.of(acme).get("b")?.version, "good");
  assert.deepEqual(reported, ["prefetch: Error: unreadable", "refresh: Error: unreadable"]);
});

test("of the requests that wait for adapters, one tenant's are bounded, and others' go on", async () => {
  const { adapters, upload, decoding } = scene(undefined, 4);
  await upload("here", "v1");
  const loaded = Promise.withResolvers<void>();
  decoding.slow = loaded.promise;
  adapters.residency.register("slow", 0);
  const view = adapters.of(acme);
  const waiting = Array.from({ length: 1024 }, () => view.lease(["slow"]));
  await assert.rejects(view.lease(["slow"]), { code: "adapter_cache_busy" });
  (await view.lease(["v1"])).release(); // what is in memory waits for nothing
  const other = adapters.of(globex).lease(["slow"]);
  loaded.resolve();
  for (const lease of await Promise.all([...waiting, other])) lease.release();
  (await view.lease(["slow"])).release();
});

test("a tenant with a key leaves memory to others, and one without keys has all of it", async () => {
  const { adapters } = scene();
  for (const version of ["v1", "v2"]) adapters.serve(versionOf("acme", version, version));
  const leaseBoth = async (tenant: Tenant) => {
    const leases = ["v1", "v2"].map((version) => adapters.of(tenant).lease([version]));
    const first = await Promise.race([leases[1]!.then(() => "both"), settled("one")]);
    (await leases[0]!).release();
    (await leases[1]!).release();
    return first;
  };
  assert.deepEqual(
    [await leaseBoth(acme), await leaseBoth(openToAll.authenticate(undefined))],
    ["one", "both"],
  );
});

test("an upload that names another base is told so", async () => {
  const { upload } = scene();
  const { warnings } = await upload("a", "v1");
  assert.equal(warnings.length, 1);
  assert.match(warnings[0]!, /"elsewhere\/other".*base is served/);
});
