// The store against a map: random adds, aliases, pins, deletions, expiries and restarts of several owners, after each
// of which both must tell the same.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import fc from "fast-check";
import type { CotenantError } from "../kernels/errors.ts";
import { writePeft } from "./peft-fixture.ts";
import type { AdapterStore } from "./store.ts";
import { content, inProcessDecoder, openFixtureStore } from "./store-fixture.ts";

type Entry = { content: number; team: string | undefined };
type NameModel = {
  current: number;
  history: Entry[];
  pinned: boolean;
  shared: boolean;
  expiresAtMs: number | null;
};
type Model = { names: Map<string, NameModel>; unnamed: Set<number> };
type Real = { root: string; store: AdapterStore };
type Command = fc.AsyncCommand<Model, Real>;

const owners = ["o1", "o2"];
const ids = ["a", "b", "C/d"];
const contents = [1, 2, 3, 4];
const runs = 40;

let sources = "";
const versions = new Map<number, string>();
const contentOf = new Map<string, number>();
before(async () => {
  sources = mkdtempSync(join(tmpdir(), "cotenant-model-"));
  const store = await openFixtureStore(sources, { pool: inProcessDecoder });
  for (const n of contents) {
    const { version } = await store.add({ owner: "o", id: "a", source: sourceOf(n) });
    versions.set(n, version);
    contentOf.set(version, n);
  }
  assert.equal(contentOf.size, contents.length);
});
after(() => rmSync(sources, { recursive: true }));

const name = fc.record({ owner: fc.constantFrom(...owners), id: fc.constantFrom(...ids) });
type Name = { owner: string; id: string };
const anyContent = fc.constantFrom(...contents);
const settings = fc.record(
  {
    pin: fc.boolean(),
    shared: fc.boolean(),
    ttlSeconds: fc.constantFrom(null, 10, 1000),
    team: fc.constantFrom("x", "y"),
  },
  { requiredKeys: [] },
);
type Settings = { pin?: boolean; shared?: boolean; ttlSeconds?: number | null; team?: string };

/** A change of both; where the model refuses, the store must refuse with that code, and change nothing. */
function command(label: string, change: (model: Model, real: Real) => Promise<void>): Command {
  return { check: () => true, toString: () => label, run: change };
}

const commands = [
  fc.tuple(name, anyContent, settings, fc.option(fc.constantFrom(...ids), { nil: undefined })).map((args) =>
    command(`add ${JSON.stringify(args)}`, async (model, { store }) => {
      const [{ owner, id }, n, { team, ...given }, alias] = args;
      const metadata = team === undefined ? {} : { metadata: { team } };
      const adding = store.add({
        owner,
        id,
        source: sourceOf(n),
        ...given,
        ...metadata,
        ...(alias && { alias }),
      });
      if (isTaken(model, { owner, id }, given)) return refusedWith(adding, "adapter_id_taken");
      const { expiresAtMs } = await adding;
      addTo(model, { owner, id }, { n, team, given, expiresAtMs });
      if (alias !== undefined)
        moveTo(model, { owner, id: alias }, entryOf(model.names.get(keyOf({ owner, id }))!, n)!);
    }),
  ),
  fc.tuple(name, anyContent).map(([at, n]) =>
    command(`alias ${JSON.stringify([at, n])}`, async (model, { store }) => {
      const moving = store.moveAlias(at, versions.get(n)!);
      // Where several names have the version, the first of them says what is said of it.
      const [entry] = ofOwner(model, at.owner).flatMap(([, known]) => entryOf(known, n) ?? []);
      if (entry === undefined) return refusedWith(moving, "adapter_version_unknown");
      await moving;
      moveTo(model, at, entry);
    }),
  ),
  fc.tuple(name, fc.boolean()).map(([at, pinned]) =>
    command(`pin ${JSON.stringify([at, pinned])}`, async (model, { store }) => {
      const pinning = store.setPinned(at, pinned);
      const known = model.names.get(keyOf(at));
      if (known === undefined) return refusedWith(pinning, "adapter_not_found");
      await pinning;
      known.pinned = pinned;
    }),
  ),
  name.map((at) =>
    command(`delete ${JSON.stringify(at)}`, async (model, { store }) => {
      const deleting = store.delete(at);
      if (!model.names.has(keyOf(at))) return refusedWith(deleting, "adapter_not_found");
      const { unnamed } = await deleting;
      removeFrom(model, [keyOf(at)], unnamed);
    }),
  ),
  fc.tuple(name, anyContent).map(([at, n]) =>
    command(`delete version ${JSON.stringify([at, n])}`, async (model, { store }) => {
      const deleting = store.deleteVersion(at, versions.get(n)!);
      const known = model.names.get(keyOf(at));
      if (known === undefined) return refusedWith(deleting, "adapter_not_found");
      if (known.current === n) return refusedWith(deleting, "adapter_version_current");
      if (!known.history.some((entry) => entry.content === n)) {
        return refusedWith(deleting, "adapter_version_unknown");
      }
      const { unnamed } = await deleting;
      known.history = known.history.filter((entry) => entry.content !== n);
      removeFrom(model, [], unnamed, [n]);
    }),
  ),
  fc.constantFrom(100, 5000).map((inSeconds) =>
    command(`expire in ${inSeconds} s`, async (model, { store }) => {
      const nowMs = Date.now() + inSeconds * 1000;
      const over = [...model.names].filter(
        ([, { expiresAtMs }]) => expiresAtMs !== null && expiresAtMs <= nowMs,
      );
      const { expired, unnamed } = await store.expire(nowMs);
      assert.deepEqual(expired.map(keyOf).sort(), over.map(([key]) => key).sort());
      removeFrom(
        model,
        over.map(([key]) => key),
        unnamed,
      );
    }),
  ),
  anyContent.map((n) =>
    command(`forget ${n}`, async (model, { store }) => {
      assert.equal(await store.forget(versions.get(n)!), !isNamed(model, n));
      model.unnamed.delete(n);
    }),
  ),
  fc.constant(0).map(() =>
    command("restart", async (model, real) => {
      await real.store.close();
      real.store = await openFixtureStore(real.root, { pool: inProcessDecoder });
      model.unnamed.clear();
    }),
  ),
];

test("the store tells what a map would, whatever happens to it", async () => {
  const checked = commands.map((arbitrary) => arbitrary.map(thenCompare));
  await fc.assert(
    fc.asyncProperty(fc.commands(checked, { maxCommands: 30, size: "max" }), async (sequence) => {
      const root = mkdtempSync(join(tmpdir(), "cotenant-model-run-"));
      try {
        const setup = async () => ({
          model: { names: new Map(), unnamed: new Set<number>() } satisfies Model,
          real: { root, store: await openFixtureStore(root, { pool: inProcessDecoder }) },
        });
        await fc.asyncModelRun(setup, sequence);
      } finally {
        rmSync(root, { recursive: true });
      }
    }),
    { numRuns: runs, endOnFailure: false },
  );
});

function thenCompare(inner: Command): Command {
  return command(String(inner), async (model, real) => {
    await inner.run(model, real);
    await compare(model, real);
  });
}

async function compare(model: Model, { store }: Real): Promise<void> {
  for (const owner of owners) {
    const expected = ofOwner(model, owner);
    const { adapters, next } = store.list({ owner, limit: 10 });
    assert.equal(next, null);
    assert.deepEqual(
      adapters.map(({ id }) => `${owner} ${id}`),
      expected.map(([key]) => key),
    );
    for (const [i, { id, version, pinned, shared, expiresAtMs }] of adapters.entries()) {
      const history = store.versions({ owner, id }).map((each) => ({
        content: contentOf.get(each.version)!,
        team: each.metadata.team,
      }));
      const seen = { current: contentOf.get(version), history, pinned, shared, expiresAtMs };
      assert.deepEqual(seen, expected[i]![1]);
    }
    const distinct = new Set(expected.flatMap(([, { history }]) => history.map((entry) => entry.content)));
    assert.equal(store.usage(owner).versions, distinct.size);
  }
  for (const n of contents) {
    if (isNamed(model, n) || model.unnamed.has(n)) await store.decode(versions.get(n)!);
    else await refusedWith(store.decode(versions.get(n)!), "adapter_version_unknown");
  }
}

type Added = { n: number; team: string | undefined; given: Settings; expiresAtMs: number | null };

function addTo(model: Model, at: Name, { n, team, given, expiresAtMs }: Added): void {
  moveTo(model, at, { content: n, team });
  const known = model.names.get(keyOf(at))!;
  if (team !== undefined) {
    known.history = known.history.map((entry) => (entry.content === n ? { ...entry, team } : entry));
  }
  if (given.pin !== undefined) known.pinned = given.pin;
  if (given.shared !== undefined) known.shared = given.shared;
  if (given.ttlSeconds === null) known.expiresAtMs = null;
  else if (given.ttlSeconds !== undefined) {
    // The clock is the store's; the model checks only that it was read just now.
    const lateMs = Date.now() + given.ttlSeconds * 1000 - expiresAtMs!;
    assert.ok(lateMs >= 0 && lateMs < 5_000, `expires ${lateMs} ms too early`);
    known.expiresAtMs = expiresAtMs;
  }
}

function moveTo(model: Model, at: Name, entry: Entry): void {
  const known = model.names.get(keyOf(at));
  if (known === undefined) {
    const settings = { pinned: false, shared: false, expiresAtMs: null };
    model.names.set(keyOf(at), { current: entry.content, history: [entry], ...settings });
  } else {
    if (!entryOf(known, entry.content)) known.history = [entry, ...known.history];
    known.current = entry.content;
  }
  model.unnamed.delete(entry.content);
}

function entryOf({ history }: NameModel, n: number): Entry | undefined {
  return history.find((entry) => entry.content === n);
}

/** Removes names; what nothing names any more must be what the store says. */
function removeFrom(model: Model, keys: string[], unnamed: readonly string[], also: number[] = []): void {
  const touched = keys.flatMap((key) => model.names.get(key)!.history.map((entry) => entry.content));
  for (const key of keys) model.names.delete(key);
  const expected = [...touched, ...also].filter((n) => !isNamed(model, n));
  assert.deepEqual(new Set(unnamed.map((version) => contentOf.get(version))), new Set(expected));
  for (const n of expected) model.unnamed.add(n);
}

function isTaken(model: Model, at: Name, { shared }: Settings): boolean {
  const willShare = shared ?? model.names.get(keyOf(at))?.shared ?? false;
  const others = owners.filter((owner) => owner !== at.owner);
  return willShare && others.some((owner) => model.names.get(keyOf({ ...at, owner }))?.shared === true);
}

function isNamed(model: Model, n: number): boolean {
  return [...model.names.values()].some(({ history }) => history.some((entry) => entry.content === n));
}

function ofOwner(model: Model, owner: string): [string, NameModel][] {
  return [...model.names].filter(([key]) => key.startsWith(`${owner} `)).sort(([a], [b]) => (a < b ? -1 : 1));
}

function keyOf({ owner, id }: Name): string {
  return `${owner} ${id}`;
}

function sourceOf(n: number) {
  return { kind: "directory", path: writePeft(join(sources, `content-${n}`), content(n)) } as const;
}

async function refusedWith(attempt: Promise<unknown>, code: CotenantError["code"]): Promise<void> {
  await assert.rejects(attempt, { code });
}
