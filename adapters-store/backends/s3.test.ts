// What S3's backend does when the network fails, and a whole store on it. The server: tests/s3-server.ts.

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { type S3Server, startS3Server } from "../../tests/s3-server.ts";
import { DecodePool } from "../decode-pool.ts";
import { defaultOwner } from "../store.ts";
import { addFixture, content, openFixtureStore } from "../store-fixture.ts";
import type { StorageBackend } from "./backend.ts";
import { openS3Backend } from "./s3.ts";

const root = mkdtempSync(join(tmpdir(), "cotenant-s3-"));
let server: S3Server;
let network: BadNetwork;
let backend: StorageBackend;

before(async () => {
  server = await startS3Server(join(root, "objects"));
  network = await badNetwork(server.options.endpoint!);
});
beforeEach(async () => {
  network.fault = null;
  backend = await openS3Backend({ ...server.options, endpoint: network.url, attempts: 3 });
});
afterEach(() => backend.close());
after(async () => {
  network.close();
  await server.close();
  rmSync(root, { recursive: true });
});

test("an answer that breaks off goes on where it stopped", async () => {
  const bytes = Buffer.from(Array.from({ length: 3_000_000 }, (_, i) => i % 253));
  await backend.put("long", bytes);
  network.fault = { cutAnswersAfterBytes: 1_000_000, times: 4 };
  assert.deepEqual(await buffer(await backend.get("long")), bytes);
  assert.ok(network.faults >= 3);
  network.fault = { cutAnswersAfterBytes: 500_000, times: 1 };
  const part = await buffer(await backend.get("long", { range: { start: 11, end: 2_000_011 } }));
  assert.deepEqual(part, bytes.subarray(11, 2_000_011));
});

test("an object that is replaced while it is read is never two halves", async () => {
  await backend.put("changing", Buffer.alloc(4_000_000, 1));
  const stream = await backend.get("changing");
  network.fault = { cutAnswersAfterBytes: 0, times: 1 };
  await backend.put("changing", Buffer.alloc(4_000_000, 2)).catch(() => {});
  await backend.put("changing", Buffer.alloc(4_000_000, 2));
  network.cutAll();
  await assert.rejects(buffer(stream), { code: "storage_conflict" });
});

test("a file is sent again when the connection is lost", async () => {
  const path = join(root, "file");
  writeFileSync(path, Buffer.alloc(2_000_000, 7));
  network.fault = { cutRequestsAfterBytes: 500_000, times: 2 };
  await backend.put("file", { path });
  assert.equal((await backend.head("file"))?.sizeBytes, 2_000_000);
});

test("a conditional write whose answer was lost is known as one's own", async () => {
  network.fault = { cutAnswersAfterBytes: 0, times: 1 };
  const put = await backend.put("mine", Buffer.from("mine"), { ifAbsent: true });
  assert.equal((await backend.head("mine"))?.etag, put.etag);
  await assert.rejects(backend.put("mine", Buffer.from("more"), { ifAbsent: true }), {
    code: "storage_conflict",
  });
});

test("a network that stays away is said to", async () => {
  network.fault = { cutAnswersAfterBytes: 0, times: 100 };
  await assert.rejects(backend.head("file"), { code: "storage_unavailable", message: /s3:\/\// });
});

test("a server that ignores conditions is refused", async () => {
  const careless = await startS3Server(join(root, "careless"), false);
  try {
    await assert.rejects(openS3Backend(careless.options), { code: "storage_conditions_unsupported" });
  } finally {
    await careless.close();
  }
});

test("a store on it: adds, deletes, restarts, and refuses a second writer", async () => {
  const pool = new DecodePool();
  const open = () => openFixtureStore(root, { backend, pool });
  try {
    const store = await open();
    const first = await addFixture(store, root, { alias: "live" });
    const second = await addFixture(store, root, { content: content(9) });
    assert.match(first.location, /^s3:\/\//);
    const reopened = await open();
    assert.deepEqual(reopened.all(), store.all());
    assert.equal((await reopened.decode(first.version)).modules.length, 3);
    assert.deepEqual(readdirSync(join(root, "store", "quarantine")), []);
    await store.delete({ owner: defaultOwner, id: "a" });
    await store.setPinned({ owner: defaultOwner, id: "live" }, true);
    const late = reopened.set({ owner: defaultOwner, id: "live" }, { shared: true });
    await assert.rejects(late, { code: "storage_conflict" });
    const last = await open();
    assert.deepEqual(
      last.all().map(({ id, version, pinned }) => [id, version, pinned]),
      [["live", first.version, true]],
    );
    await assert.rejects(last.decode(second.version), { code: "adapter_version_unknown" });
    const keys: string[] = [];
    for await (const { key } of backend.list("versions/")) keys.push(key);
    assert.equal(keys.length, 3);
  } finally {
    await pool.close();
  }
});

type Fault = {
  readonly cutAnswersAfterBytes?: number;
  readonly cutRequestsAfterBytes?: number;
  times: number; // how many connections it still hits
};
type BadNetwork = { url: string; fault: Fault | null; faults: number; cutAll(): void; close(): void };

/** Passes bytes on to `endpoint`, and breaks connections as `fault` says. */
async function badNetwork(endpoint: string): Promise<BadNetwork> {
  const { hostname, port } = new URL(endpoint);
  const sockets = new Set<Socket>();
  const listener: Server = createServer((near) => {
    const far = connect(Number(port), hostname);
    const cut = () => {
      near.destroy();
      far.destroy();
    };
    const pass = (from: Socket, to: Socket, limitOf: (fault: Fault) => number | undefined) => {
      let passed = 0;
      from.on("data", (chunk: Buffer) => {
        passed += chunk.length;
        const { fault } = state;
        const limit = fault ? limitOf(fault) : undefined;
        if (fault && limit !== undefined && passed > limit && fault.times > 0) {
          fault.times--;
          state.faults++;
          return cut();
        }
        if (!to.write(chunk)) {
          from.pause();
          to.once("drain", () => from.resume());
        }
      });
      from.on("error", cut);
      from.on("close", cut);
    };
    pass(near, far, ({ cutRequestsAfterBytes }) => cutRequestsAfterBytes);
    pass(far, near, ({ cutAnswersAfterBytes }) => cutAnswersAfterBytes);
    for (const socket of [near, far]) sockets.add(socket.once("close", () => sockets.delete(socket)));
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const state: BadNetwork = {
    url: `http://127.0.0.1:${(listener.address() as AddressInfo).port}`,
    fault: null,
    faults: 0,
    cutAll: () => {
      for (const socket of sockets) socket.destroy();
    },
    close: () => {
      listener.close();
      state.cutAll();
    },
  };
  return state;
}
