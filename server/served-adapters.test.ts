import assert from "node:assert/strict";
import { stat } from "node:fs/promises";
import { test } from "node:test";
import { fixtureTargets } from "../adapters-store/peft-fixture.ts";
import type { AdapterSource, StoredAdapter } from "../adapters-store/store.ts";
import { idleStats, type ServedModel } from "../scheduler/protocol.ts";
import { ServedAdapters } from "./served-adapters.ts";
import { noQuotas, type Tenant } from "./tenancy/tenant.ts";

const source: AdapterSource = { kind: "directory", path: "/nowhere" };

const tenantOf = (id: string, quotas: Partial<Tenant["quotas"]> = {}): Tenant => ({
  id,
  weight: 1,
  role: "manage",
  quotas: { ...noQuotas, ...quotas },
});
const acme = tenantOf("acme");
const globex = tenantOf("globex");

const elsewhere = () => {
  throw new Error("tests/server/adapters.test.ts has it, with the real store");
};
const storeOfOtherTests = {
  delete: elsewhere,
  deleteVersion: elsewhere,
  expire: elsewhere,
  forget: elsewhere,
  list: elsewhere,
  moveAlias: elsewhere,
  setPinned: elsewhere,
  versions: elsewhere,
};

/** A store whose next upload has the given version, and an engine that notes what it is told. */
function scene() {
  const told: string[] = [];
  const stored = new Map<string, StoredAdapter>();
  const decoding: Record<string, Promise<void>> = {}; // what decoding a version has to wait for
  let version = "v1";
  let decodedBytes = 0;
  const adapters = new ServedAdapters({
    baseName: "base",
    store: {
      add: async ({ owner, id, check }) => {
        const added = versionOf(owner, id, version);
        check?.({ ...summary, decodedBytes });
        stored.set(`${owner} ${id}`, added);
        return added;
      },
      get: ({ owner, id }) => stored.get(`${owner} ${id}`),
      find: ({ owner, id }) => stored.get(`${owner} ${id}`),
      usage: (owner) => {
        const adapters = [...stored.values()].filter((each) => each.owner === owner).length;
        return { adapters, versions: adapters, sizeBytes: 40 * adapters };
      },
      decode: async (wanted) => {
        await decoding[wanted];
        return { modules: [] };
      },
      ...storeOfOtherTests,
    },
    hostCacheBytes: 2, // room for two: an adapter of no modules takes one byte
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
  const moveInStore = (id: string, next: string) => stored.set(`acme ${id}`, versionOf("acme", id, next));
  return { adapters, told, upload, stored, moveInStore, decoding };
}

const summary: StoredAdapter["summary"] = {
  kinds: [],
  ranks: null,
  modulesMatched: { count: 0, names: [] },
  modulesUnmatched: [],
  sizeBytes: 0,
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
  const { adapters, upload, decoding } = scene();
  await upload("a", "v1");
  const reading = Promise.withResolvers<void>();
  decoding.v2 = reading.promise;
  const uploaded = upload("a", "v2");
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(adapters.of(acme).get("a")?.version, "v1");
  reading.reject(new Error("unreadable"));
  await assert.rejects(uploaded, /unreadable/);
  assert.equal(adapters.of(acme).get("a")?.version, "v1");
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

test("the quota of bytes counts what is stored and what comes", async () => {
  const { adapters } = scene();
  const files = [{ name: "served-adapters.test.ts", path: import.meta.filename }];
  const view = (storedBytes: number) => adapters.of(tenantOf("acme", { storedBytes }));
  await view(1_000_000).add({ id: "a", source: { kind: "files", files } });
  const { size } = await stat(import.meta.filename);
  await assert.rejects(view(40 + size - 1).add({ id: "b", source: { kind: "files", files } }), {
    code: "quota_exceeded",
  });
  await view(40 + size).add({ id: "b", source: { kind: "files", files } });
});
