// Every backend of the registry, by the same rules. S3's is a real server process: tests/s3-server.ts says which.

import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { after, before, suite, test } from "node:test";
import { type S3Server, startS3Server } from "../../tests/s3-server.ts";
import type { StorageBackend } from "./backend.ts";
import { type BackendKind, backends, openBackend } from "./index.ts";

const root = mkdtempSync(join(tmpdir(), "cotenant-backends-"));
let s3: S3Server;
before(async () => {
  s3 = await startS3Server(join(root, "s3"));
});
after(async () => {
  await s3.close();
  rmSync(root, { recursive: true });
});

/** Each call gives the same place again. */
const openers = {
  local: () => openBackend({ kind: "local", directory: join(root, "local") }),
  s3: () => openBackend({ kind: "s3", ...s3.options, prefix: "here" }),
} satisfies Record<BackendKind, () => Promise<StorageBackend>>;

for (const kind of Object.keys(backends) as BackendKind[]) {
  suite(kind, () => {
    let backend: StorageBackend;
    before(async () => {
      backend = await openers[kind]();
    });
    after(() => backend.close());

    test("what was put is got, whole and in part, also by the next who opens it", async () => {
      const bytes = Buffer.from(Array.from({ length: 100_000 }, (_, i) => i % 251));
      const put = await backend.put("a/b.bin", bytes);
      const other = await openers[kind]();
      for (const each of [backend, other]) {
        assert.deepEqual(await each.head("a/b.bin"), put);
        assert.deepEqual(await read(each, "a/b.bin"), bytes);
        assert.deepEqual(
          await buffer(await each.get("a/b.bin", { range: { start: 7, end: 90_001 } })),
          bytes.subarray(7, 90_001),
        );
      }
      await other.close();
    });

    test("a file is put as it is, and stays its owner's", async () => {
      const path = join(root, `${kind}.file`);
      writeFileSync(path, "of a file");
      const [first, again] = [await backend.put("files/f", { path }), await backend.put("files/f", { path })];
      assert.equal(first.sizeBytes, again.sizeBytes);
      assert.equal(readFileSync(path, "utf8"), "of a file");
      rmSync(path);
      assert.equal(String(await read(backend, "files/f")), "of a file");
    });

    test("conditions hold", async () => {
      const first = await backend.put("c/x", Buffer.from("1"), { ifAbsent: true });
      await refused(backend.put("c/x", Buffer.from("2"), { ifAbsent: true }));
      const second = await backend.put("c/x", Buffer.from("22"), { ifMatch: first.etag });
      assert.notEqual(second.etag, first.etag);
      await refused(backend.put("c/x", Buffer.from("3"), { ifMatch: first.etag }));
      await refused(backend.get("c/x", { ifMatch: first.etag }));
      assert.equal(String(await buffer(await backend.get("c/x", { ifMatch: second.etag }))), "22");
      await backend.delete("c/x");
      await assert.rejects(backend.put("c/x", Buffer.from("4"), { ifMatch: second.etag }), {
        code: /storage_conflict|storage_object_missing/,
      });
      const racers = Array.from({ length: 8 }, (_, i) =>
        backend.put("c/race", Buffer.from(`racer ${i}`), { ifAbsent: true }),
      );
      const outcomes = await Promise.allSettled(racers);
      const winners = outcomes.flatMap(({ status }, i) => (status === "fulfilled" ? [`racer ${i}`] : []));
      assert.deepEqual(winners, [String(await read(backend, "c/race"))]);
    });

    test("lists by prefix, and what was deleted is gone", async () => {
      for (const key of ["l/1", "l/2/x", "l/2/y", "m/1"]) await backend.put(key, Buffer.from(key));
      assert.deepEqual(await keys(backend, "l/"), ["l/1", "l/2/x", "l/2/y"]);
      assert.deepEqual(await keys(backend, "l/2/"), ["l/2/x", "l/2/y"]);
      assert.deepEqual(await keys(backend, "nothing/"), []);
      for (const key of ["l/2/x", "l/2/x", "l/2/y", "never/there"]) await backend.delete(key);
      assert.deepEqual(await keys(backend, "l/"), ["l/1"]);
      assert.equal(await backend.head("l/2/x"), null);
      await assert.rejects(read(backend, "l/2/x"), { code: "storage_object_missing" });
    });

    test("objects become files in a folder, which is let go of", async () => {
      await backend.put("v/1/a.json", Buffer.from("{}"));
      await backend.put("v/1/b.bin", Buffer.from("b"));
      const scratch = join(root, `${kind}-scratch`);
      {
        await using folder = await backend.openFolder("v/1/", ["a.json", "b.bin"], scratch);
        assert.equal(readFileSync(join(folder.directory, "b.bin"), "utf8"), "b");
      }
      assert.ok(!existsSync(scratch));
      assert.equal(String(await read(backend, "v/1/a.json")), "{}");
    });
  });
}

async function refused(attempt: Promise<unknown>): Promise<void> {
  await assert.rejects(attempt, { code: "storage_conflict" });
}

async function read(backend: StorageBackend, key: string): Promise<Buffer> {
  return buffer(await backend.get(key));
}

async function keys(backend: StorageBackend, prefix: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { key } of backend.list(prefix)) found.push(key);
  return found.sort();
}
