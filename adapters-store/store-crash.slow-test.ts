// Kills a process that changes the store, at 200 random moments, and checks what the next one finds: every
// acknowledged change, of the one under way all or nothing, and no leftovers. Run with an argument, this file is
// that process.

import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { writePeft } from "./peft-fixture.ts";
import type { AdapterStore } from "./store.ts";
import { content, inProcessDecoder, openFixtureStore } from "./store-fixture.ts";

const kills = 200;
const mostLines = 24; // that a process may write before its end, two for each change
const longestDelayMs = 4; // from its last line
const owners = ["o0", "o1", "o2"]; // each with one change under way at a time
const ids = ["a", "b"];
const contents = [1, 2, 3, 4, 5];

/** A change of the owner's name `id`; contents stand for their versions. */
type Change = { readonly owner: string; readonly id: string } & (
  | { readonly kind: "add" | "alias"; readonly content: number }
  | { readonly kind: "pin"; readonly pinned: boolean }
  | { readonly kind: "delete" }
);
type Line = { readonly change: Change; readonly done: boolean };
type NameState = { readonly current: string; readonly history: readonly string[]; readonly pinned: boolean };
type State = Map<string, NameState>; // by "owner id"

const contentVersions = new Map<number, string>(); // in the child: those that it has added

const [root] = process.argv.slice(2);
if (root !== undefined) await changeUntilKilled(root);
else test("kill -9 at any moment leaves every acknowledged change, and no half one", killAndCheck);

async function killAndCheck(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "cotenant-crash-"));
  fillCompileCache(directory);
  const standby = [start(directory), start(directory)]; // starting takes longer than living
  try {
    const versions = await versionsOf(mkdtempSync(join(tmpdir(), "cotenant-crash-oracle-")));
    let state: State = new Map();
    let acknowledged = 0;
    let interrupted = 0;
    for (let kill = 0; kill < kills; kill++) {
      const lines = await runAndKill(standby.shift()!);
      if (kill + standby.length + 1 < kills) standby.push(start(directory));
      const underWay = new Map<string, Change>();
      for (const { change, done } of lines) {
        if (done) state = applied(state, change, versions);
        if (done) underWay.delete(change.owner);
        else underWay.set(change.owner, change);
        acknowledged += Number(done);
      }
      interrupted += underWay.size;
      const store = await openFixtureStore(directory, { pool: inProcessDecoder });
      const found = stateOf(store);
      for (const owner of owners) {
        const change = underWay.get(owner);
        const allowed = [state, ...(change ? [applied(state, change, versions)] : [])];
        const seen = JSON.stringify(ofOwner(found, owner));
        const fits = allowed.some((each) => JSON.stringify(ofOwner(each, owner)) === seen);
        assert.ok(fits, `kill ${kill}: ${seen} after ${JSON.stringify([ofOwner(state, owner), change])}`);
      }
      await assertWhole(directory, store, found);
      await store.close();
      state = found;
    }
    assert.ok(
      acknowledged > kills && interrupted > kills / 2,
      `${acknowledged} done, ${interrupted} interrupted`,
    );
  } finally {
    for (const child of standby) child.kill("SIGKILL");
    rmSync(directory, { recursive: true });
  }
}

/** What a change does to names, said once more and as simply as possible. */
function applied(state: State, change: Change, versions: ReadonlyMap<number, string>): State {
  const next = new Map(state);
  const key = `${change.owner} ${change.id}`;
  const former = next.get(key);
  if (change.kind === "delete") next.delete(key);
  else if (change.kind === "pin") {
    if (former) next.set(key, { ...former, pinned: change.pinned });
  } else {
    const current = versions.get(change.content)!;
    const history = former?.history ?? [];
    next.set(key, {
      current,
      history: history.includes(current) ? history : [current, ...history],
      pinned: former?.pinned ?? false,
    });
  }
  return next;
}

async function assertWhole(directory: string, store: AdapterStore, found: State): Promise<void> {
  const folder = (name: string) => {
    const path = join(directory, "store", name);
    return existsSync(path) ? readdirSync(path) : []; // killed before it was made
  };
  assert.deepEqual([folder("quarantine"), folder("incoming")], [[], []]);
  const named = [...new Set([...found.values()].flatMap(({ history }) => history))].sort();
  assert.deepEqual(folder("versions").sort(), named);
  assert.equal(folder("names").length, found.size);
  for (const version of named) assert.equal((await store.decode(version)).modules.length, 3);
}

function stateOf(store: AdapterStore): State {
  return new Map(
    store.all().map(({ owner, id, version, pinned }) => {
      const history = store.versions({ owner, id }).map((each) => each.version);
      return [`${owner} ${id}`, { current: version, history, pinned }];
    }),
  );
}

function ofOwner(state: State, owner: string) {
  return [...state].filter(([key]) => key.startsWith(`${owner} `)).sort();
}

async function versionsOf(directory: string): Promise<Map<number, string>> {
  const store = await openFixtureStore(directory, { pool: inProcessDecoder });
  const versions = new Map<number, string>();
  for (const n of contents) {
    const path = writePeft(join(directory, "source"), content(n));
    const { version } = await store.add({ owner: "o", id: "a", source: { kind: "directory", path } });
    versions.set(n, version);
  }
  rmSync(directory, { recursive: true });
  return versions;
}

function start(directory: string): ChildProcess {
  return spawn(process.execPath, [fileURLToPath(import.meta.url), directory], {
    stdio: ["pipe", "pipe", "inherit"],
    env: childEnvironment(directory),
  });
}

/** A killed process writes none, and without it each would compile everything again. */
function fillCompileCache(directory: string): void {
  const load = `await import(${JSON.stringify(new URL("./store-fixture.ts", import.meta.url))})`;
  execFileSync(process.execPath, ["--input-type=module", "--eval", load], {
    env: childEnvironment(directory),
  });
}

function childEnvironment(directory: string): NodeJS.ProcessEnv {
  return { ...process.env, NODE_TEST_CONTEXT: undefined, NODE_COMPILE_CACHE: join(directory, "compiled") };
}

/** Kills the child a moment after some line that it writes; gives all that it wrote. */
async function runAndKill(child: ChildProcess): Promise<Line[]> {
  let output = "";
  let linesLeft = Math.floor(Math.random() * mostLines);
  child.stdin!.write("go\n"); // kept by the pipe until the child reads it
  child.stdout!.setEncoding("utf8").on("data", (text: string) => {
    output += text;
    linesLeft -= text.split("\n").length - 1;
    if (linesLeft < 0) setTimeout(() => child.kill("SIGKILL"), Math.random() * longestDelayMs);
  });
  await once(child, "close");
  return output
    .split("\n")
    .slice(1, -1)
    .map((line) => JSON.parse(line));
}

/** Writes a line before each change and one after it was acknowledged. */
async function changeUntilKilled(directory: string): Promise<void> {
  await once(process.stdin, "data");
  writeSync(1, "ready\n");
  const store = await openFixtureStore(directory, { pool: inProcessDecoder });
  await Promise.all(owners.map((owner) => changeAsOwner(store, owner, directory)));
}

async function changeAsOwner(store: AdapterStore, owner: string, directory: string): Promise<never> {
  for (;;) {
    const change = randomChange(store, owner);
    writeSync(1, `${JSON.stringify({ change, done: false })}\n`);
    await make(store, change, directory);
    writeSync(1, `${JSON.stringify({ change, done: true })}\n`);
  }
}

function randomChange(store: AdapterStore, owner: string): Change {
  const pick = <T>(items: readonly T[]): T => items[Math.floor(Math.random() * items.length)]!;
  const id = pick(ids);
  const isThere = store.get({ owner, id }) !== undefined;
  const kind = pick(["add", "add", "add", "alias", "pin", "delete"] as const);
  if (kind === "delete" && isThere) return { owner, id, kind };
  if (kind === "pin" && isThere) return { owner, id, kind, pinned: Math.random() < 0.5 };
  const has = new Set(ids.flatMap((each) => versionsIn(store, owner, each)));
  const known = contents.filter((n) => has.has(contentVersions.get(n) ?? ""));
  if (kind === "alias" && known.length > 0) return { owner, id, kind, content: pick(known) };
  return { owner, id, kind: "add", content: pick(contents) };
}

function versionsIn(store: AdapterStore, owner: string, id: string): string[] {
  if (store.get({ owner, id }) === undefined) return [];
  return store.versions({ owner, id }).map(({ version }) => version);
}

async function make(store: AdapterStore, change: Change, directory: string): Promise<void> {
  const { owner, id } = change;
  if (change.kind === "add") {
    const path = writePeft(join(directory, `source-${owner}`), content(change.content));
    const { version } = await store.add({ owner, id, source: { kind: "directory", path } });
    contentVersions.set(change.content, version);
  } else if (change.kind === "alias")
    await store.moveAlias({ owner, id }, contentVersions.get(change.content)!);
  else if (change.kind === "pin") await store.setPinned({ owner, id }, change.pinned);
  else for (const version of (await store.delete({ owner, id })).unnamed) await store.forget(version);
}
