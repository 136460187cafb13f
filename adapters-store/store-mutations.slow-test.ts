// Thousands of spoilt uploads: each is refused with a code that names the cause, or is a sound adapter after all; a
// refused one leaves nothing, and memory stays bounded. Patterns that hang are decode-pool.test.ts's business.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type DecodedAdapter, moduleArrays } from "../kernels/adapter.ts";
import { AdapterError } from "../kernels/errors.ts";
import { type AdapterSource, type AdapterStore, defaultOwner } from "./store.ts";
import { inProcessDecoder, openFixtureStore } from "./store-fixture.ts";
import { mutationOf, type Upload, validUploads } from "./upload-mutations-fixture.ts";

const mutations = 5_000;
const memoryLimitBytes = 400 << 20; // far above what the uploads take, far below what their headers ask for
const name = { owner: defaultOwner, id: "a" };

/** Several, since half of the time goes by waiting for the disk. */
type Lane = { readonly root: string; readonly store: AdapterStore };
const lanes: Lane[] = [];
before(async () => {
  for (let i = 0; i < 4; i++) {
    const root = mkdtempSync(join(tmpdir(), "cotenant-mutations-"));
    lanes.push({ root, store: await openFixtureStore(root, { pool: inProcessDecoder }) });
  }
});
after(async () => {
  for (const { root, store } of lanes) {
    await store.close();
    rmSync(root, { recursive: true });
  }
});

test("the uploads are valid before they are spoilt", async () => {
  for (const upload of validUploads()) {
    assert.equal(await outcomeOf(upload, lanes[0]!), "accepted");
  }
});

test(`${mutations} spoilt uploads are refused with a code, or sound`, async () => {
  const outcomes = new Map<string, number>();
  const startBytes = process.memoryUsage().rss;
  let mostBytes = startBytes;
  const spoil = async (lane: Lane, first: number) => {
    for (let seed = first; seed < mutations; seed += lanes.length) {
      const { name: label, upload } = mutationOf(seed);
      const outcome = await outcomeOf(upload, lane).catch((error: unknown) => {
        throw new Error(`${label}: ${error instanceof Error ? error.stack : error}`);
      });
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      mostBytes = Math.max(mostBytes, process.memoryUsage.rss());
    }
  };
  await Promise.all(lanes.map(spoil));
  assert.ok(mostBytes - startBytes < memoryLimitBytes, `${(mostBytes - startBytes) >> 20} MiB more`);
  const accepted = outcomes.get("accepted") ?? 0;
  assert.ok(accepted < mutations / 3, `${accepted} of ${mutations} accepted: the mutations are too mild`);
  assert.ok(outcomes.size > 15, `only ${[...outcomes.keys()]}: the mutations are too much alike`);
});

/** "accepted", or the code of the refusal; throws what is neither. */
async function outcomeOf(upload: Upload, { root, store }: Lane): Promise<string> {
  const folder = join(root, "upload");
  mkdirSync(folder);
  try {
    const { version } = await store.add({ ...name, source: sourceOf(upload, folder) });
    assertSound(await store.decode(version));
    const { unnamed } = await store.delete(name);
    for (const each of unnamed) await store.forget(each);
    return "accepted";
  } catch (error) {
    if (!(error instanceof AdapterError)) throw error;
    assert.ok(error.code.length > 0 && error.message.length < 3000);
    return error.code;
  } finally {
    rmSync(folder, { recursive: true });
    const left = ["names", "versions", "quarantine", "incoming"].flatMap((each) =>
      filesIn(join(root, "store", each)),
    );
    assert.deepEqual([left, store.all()], [[], []]);
  }
}

function sourceOf(upload: Upload, folder: string): AdapterSource {
  if (upload.kind === "archive") {
    writeFileSync(join(folder, "archive"), upload.bytes);
    return { kind: "archive", path: join(folder, "archive") };
  }
  const files = [...upload.files].map(([fileName, bytes], i) => {
    writeFileSync(join(folder, String(i)), bytes);
    return { name: fileName, path: join(folder, String(i)) };
  });
  return { kind: "files", files };
}

function assertSound({ modules }: DecodedAdapter): void {
  assert.ok(modules.length > 0);
  for (const module of modules) {
    for (const [, array] of moduleArrays(module)) assert.ok(array.every(Number.isFinite));
  }
}

function filesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // not made yet
  }
}
