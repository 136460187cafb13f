import assert from "node:assert/strict";
import { test } from "node:test";
import type { AdapterSource, AdapterVersion } from "../adapters-store/store.ts";
import { ServedAdapters } from "./served-adapters.ts";

const source: AdapterSource = { kind: "directory", path: "/nowhere" };

/** A store whose next upload has the given version, and an engine that notes what it is told. */
function scene() {
  const told: string[] = [];
  let version = "v1";
  const adapters = new ServedAdapters({
    baseName: "base",
    store: {
      add: async ({ id }) => ({ id, version, createdAtMs: 0, directory: "/nowhere" }) as AdapterVersion,
      decode: async () => ({ modules: [] }),
    },
    engine: {
      addAdapter: async (added) => void told.push(`+${added}`),
      removeAdapter: async (removed) => void told.push(`-${removed}`),
    },
  });
  const upload = (id: string, next: string) => {
    version = next;
    return adapters.add(id, source);
  };
  return { adapters, told, upload };
}

test("a name moves to its new version, and the former one leaves after", async () => {
  const { adapters, told, upload } = scene();
  await upload("a", "v1");
  await upload("a", "v2");
  assert.deepEqual(told, ["+v1", "+v2", "-v1"]);
  assert.equal(adapters.get("a")?.version, "v2");
});

test("two names of one version load it once, and it stays while one of them has it", async () => {
  const { adapters, told, upload } = scene();
  await upload("a", "v1");
  await upload("b", "v1");
  assert.deepEqual(adapters.namesOf("v1"), ["a", "b"]);
  await upload("a", "v2");
  assert.deepEqual(told, ["+v1", "+v2"]);
  await upload("b", "v2");
  assert.deepEqual(told, ["+v1", "+v2", "-v1"]);
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
