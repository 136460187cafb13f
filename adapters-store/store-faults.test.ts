// A backend that fails at each of an addition's writes, before or after the write took effect: the store goes on,
// tells what is true, and a restart tells the same.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { type StorageBackend, StorageError } from "./backends/backend.ts";
import { openBackend } from "./backends/index.ts";
import { defaultOwner } from "./store.ts";
import { addFixture, content, inProcessDecoder, openFixtureStore } from "./store-fixture.ts";

const name = { owner: defaultOwner, id: "a" };
const writesOfAnAddition = 4; // two files, the manifest, the name

for (const effect of ["before", "after"] as const) {
  test(`a write that fails ${effect} it took effect`, async () => {
    for (let failing = 0; failing < writesOfAnAddition; failing++) {
      const root = mkdtempSync(join(tmpdir(), "cotenant-faults-"));
      const local = await openBackend({ kind: "local", directory: join(root, "store") });
      try {
        let writesLeft = Infinity;
        const put: StorageBackend["put"] = async (key, body, condition) => {
          const fails = writesLeft-- === 0;
          if (fails && effect === "before") throw new StorageError("storage_unavailable", "no space");
          const written = await local.put(key, body, condition);
          if (fails) throw new StorageError("storage_unavailable", "no answer");
          return written;
        };
        const backend = Object.create(local, { put: { value: put } }) as StorageBackend;
        for (const method of ["get", "head", "list", "delete", "openFolder", "locate"] as const) {
          Object.defineProperty(backend, method, { value: local[method].bind(local) });
        }
        const store = await openFixtureStore(root, { backend, pool: inProcessDecoder });
        const first = await addFixture(store, root, {});
        writesLeft = failing;
        const adding = addFixture(store, root, { content: content(9) });
        await assert.rejects(adding, { code: "storage_unavailable" });
        const kept = new Set<string>();
        for await (const { key } of local.list("versions/")) kept.add(key.split("/")[1]!);
        assert.deepEqual(
          [...kept].sort(),
          store
            .versions(name)
            .map(({ version }) => version)
            .sort(),
        );
        const reopened = await openFixtureStore(root, { pool: inProcessDecoder });
        assert.deepEqual(reopened.all(), store.all());
        const nameWasWritten = failing === writesOfAnAddition - 1 && effect === "after";
        assert.equal(store.get(name)?.version === first.version, !nameWasWritten);
        for (const { version } of store.versions(name)) await reopened.decode(version);
        const { version } = await addFixture(store, root, { content: content(9) });
        assert.equal((await store.decode(version)).modules.length, 3);
      } finally {
        await local.close();
        rmSync(root, { recursive: true });
      }
    }
  });
}

test("where nobody can tell whether a name was written, the next start finds the files of what it means", async () => {
  for (const formerContents of [[], [content(1)]]) {
    const root = mkdtempSync(join(tmpdir(), "cotenant-faults-"));
    const local = await openBackend({ kind: "local", directory: join(root, "store") });
    try {
      let isCutOff = false;
      const cutOff = () => new StorageError("storage_unavailable", "no answer");
      const backend: StorageBackend = {
        put: async (key, body, condition) => {
          const written = await local.put(key, body, condition);
          isCutOff ||= key.startsWith("names/") && writesAreCut;
          if (isCutOff) throw cutOff();
          return written;
        },
        head: async (key) => {
          if (isCutOff) throw cutOff();
          return local.head(key);
        },
        get: (key, options) => local.get(key, options),
        list: (prefix) => local.list(prefix),
        delete: (key) => local.delete(key),
        openFolder: (prefix, names, scratch) => local.openFolder(prefix, names, scratch),
        locate: (key) => local.locate(key),
        close: () => local.close(),
      };
      let writesAreCut = false;
      const store = await openFixtureStore(root, { backend, pool: inProcessDecoder });
      for (const former of formerContents) await addFixture(store, root, { content: former });
      writesAreCut = true;
      await assert.rejects(addFixture(store, root, { content: content(9) }), { code: "storage_unavailable" });
      const reopened = await openFixtureStore(root, { pool: inProcessDecoder });
      assert.equal(reopened.versions(name).length, formerContents.length + 1);
      for (const { version } of reopened.versions(name)) await reopened.decode(version);
    } finally {
      await local.close();
      rmSync(root, { recursive: true });
    }
  }
});
