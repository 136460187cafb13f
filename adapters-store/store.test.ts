import assert from "node:assert/strict";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, beforeEach, test } from "node:test";
import { DecodePool } from "./decode-pool.ts";
import { fixtureTargets, type PeftFixture, writePeft } from "./peft-fixture.ts";
import { type AdapterStore, openAdapterStore } from "./store.ts";

const pool = new DecodePool();
after(() => pool.close());

let root = "";
let store: AdapterStore;
beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), "cotenant-store-"));
  store = await open();
});
afterEach(async () => {
  await store.close();
  rmSync(root, { recursive: true });
});

test("an added adapter is listed, decoded, and there after a restart", async () => {
  const added = await add("acme/orders");
  assert.match(added.version, /^[0-9a-f]{64}$/);
  assert.deepEqual(added.summary.ranks, { min: 2, max: 2 });
  assert.deepEqual(store.list(), [added]);
  assert.equal((await store.decode(added.version)).modules.length, 3);
  store = await open();
  assert.deepEqual(store.list(), [added]);
  assert.deepEqual(store.get("acme/orders"), added);
  assert.equal((await store.decode(added.version)).modules.length, 3);
  assert.deepEqual(left("quarantine"), []);
});

test("the same bytes change nothing; other bytes move the name and leave the old version", async () => {
  const first = await add("a");
  assert.deepEqual(await add("a"), first);
  const other = await add("b");
  assert.equal(other.version, first.version);
  const second = await add("a", { config: { lora_alpha: 9 } });
  assert.notEqual(second.version, first.version);
  assert.equal(store.get("a")?.version, second.version);
  assert.equal(store.get("b")?.version, first.version);
  assert.equal((await store.decode(first.version)).modules.length, 3);
  assert.equal(left("versions").length, 2);
});

test("concurrent uploads of one id leave memory and disk agreeing", async () => {
  await Promise.all([1, 2, 3, 4, 5, 6].map((lora_alpha) => add("a", { config: { lora_alpha } })));
  const inMemory = store.get("a");
  store = await open();
  assert.deepEqual(store.get("a"), inMemory);
});

test("takes files from anywhere, and says which it ignored", async () => {
  const directory = writePeft(join(root, "upload"));
  const files = [
    { name: "adapter_config.json", path: join(directory, "adapter_config.json") },
    { name: "adapter_model.safetensors", path: join(directory, "adapter_model.safetensors") },
    { name: "../README.md", path: join(directory, "absent") },
  ];
  const added = await store.add({ id: "a", source: { kind: "files", files } });
  assert.deepEqual(added.filesIgnored, ["../README.md"]);
  assert.deepEqual(readdirSync(added.directory).sort(), [
    "adapter_config.json",
    "adapter_model.safetensors",
    "manifest.json",
  ]);
  const twice = { kind: "files", files: [...files, files[0]!] } as const;
  await assert.rejects(store.add({ id: "a", source: twice }), { code: "adapter_file_duplicate" });
});

test("a refused adapter leaves nothing behind", async () => {
  await assert.rejects(add("a", { config: { use_dora: true } }), { code: "adapter_feature_unsupported" });
  await assert.rejects(add("a", { tensors: [] }), { code: "no_modules_matched" });
  await assert.rejects(store.add({ id: "a", source: { kind: "directory", path: root } }), {
    code: "adapter_format_unknown",
  });
  assert.deepEqual(store.list(), []);
  for (const folder of ["versions", "names", "quarantine"]) assert.deepEqual(left(folder), []);
});

test("ids that could be mistaken for something else are refused", async () => {
  for (const id of ["", "a:b", "a,b", "../a", "a/../b", "/a", ".a", "a b", "ä", "a".repeat(129), "a\n"]) {
    await assert.rejects(add(id), { code: "adapter_id_invalid" }, id);
  }
  for (const id of ["a", "A", "a/b.c_d-e", "9", "a".repeat(128)]) await add(id);
  assert.equal(left("names").length, 5);
});

test("opening removes what an interrupted upload left", async () => {
  await add("a");
  mkdirSync(join(root, "store", "quarantine", "half"));
  store = await open();
  assert.deepEqual(left("quarantine"), []);
  assert.equal(store.list().length, 1);
});

test("adapters of another base are kept, but not listed", async () => {
  const added = await add("a");
  const elsewhere = await open("another base");
  assert.deepEqual(elsewhere.list(), []);
  assert.deepEqual(elsewhere.listOfOtherBases(), [{ id: "a", version: added.version }]);
});

test("damage is named when the store opens, and found when a version is decoded", async () => {
  const added = await add("a");
  const other = writePeft(join(root, "other"), { config: { lora_alpha: 5 } });
  cpSync(other, added.directory, { recursive: true });
  await assert.rejects(store.decode(added.version), { code: "adapter_changed" });
  await assert.rejects(store.decode("0".repeat(64)), { code: "adapter_unknown" });
  rmSync(added.directory, { recursive: true });
  await assert.rejects(open(), { code: "adapter_store_damaged", message: /delete that file/ });
});

test("directories are served in place, under their names", async () => {
  const adapters = join(root, "adapters");
  writePeft(join(adapters, "orders"));
  writePeft(join(adapters, "tickets"), { config: { lora_alpha: 9 } });
  mkdirSync(join(adapters, "notes"));
  writeFileSync(join(adapters, "README.md"), "");
  const added = await store.addDirectoriesInPlace(adapters);
  assert.deepEqual(
    added.map(({ id }) => id),
    ["orders", "tickets"],
  );
  assert.deepEqual(store.list(), added);
  assert.equal((await store.decode(added[0]!.version)).modules.length, 3);
  assert.deepEqual(left("versions"), []);
  await assert.rejects(add("orders"), { code: "adapter_id_read_only" });
  writePeft(join(adapters, "orders"), { config: { lora_alpha: 5 } });
  await assert.rejects(store.decode(added[0]!.version), { code: "adapter_changed" });
});

test("a bad directory stops the start with its name and cause", async () => {
  const adapters = join(root, "adapters");
  writePeft(join(adapters, "good"));
  writePeft(join(adapters, "spoilt"), { config: { use_dora: true } });
  const served = () => store.addDirectoriesInPlace(adapters);
  await assert.rejects(served, { code: "adapter_feature_unsupported", message: /spoilt: .*use_dora/ });
  rmSync(join(adapters, "spoilt", "adapter_model.safetensors"));
  await assert.rejects(served, { code: "adapter_weights_missing", message: /spoilt: / });
  await assert.rejects(store.addDirectoriesInPlace(join(adapters, "good")), {
    code: "adapters_directory_is_adapter",
  });
  await assert.rejects(store.addDirectoriesInPlace(join(root, "absent")), {
    code: "adapter_directory_unreadable",
  });
});

test("a directory may not shadow an upload of other content", async () => {
  await add("orders");
  const adapters = join(root, "adapters");
  writePeft(join(adapters, "orders"));
  assert.equal((await store.addDirectoriesInPlace(adapters)).length, 1);
  store = await open();
  writePeft(join(adapters, "orders"), { config: { lora_alpha: 5 } });
  await assert.rejects(store.addDirectoriesInPlace(adapters), { code: "adapter_id_taken" });
});

function open(baseFingerprint = "base"): Promise<AdapterStore> {
  return openAdapterStore({ directory: join(root, "store"), targets: fixtureTargets, baseFingerprint, pool });
}

async function add(id: string, fixture: PeftFixture = {}) {
  const path = writePeft(mkdtempSync(join(root, "source-")), fixture);
  return store.add({ id, source: { kind: "directory", path } });
}

function left(folder: string): string[] {
  const path = join(root, "store", folder);
  return existsSync(path) ? readdirSync(path) : [];
}
