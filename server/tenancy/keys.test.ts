// Keys from the command that makes them to the server that reads the file again.

import assert from "node:assert/strict";
import { chmod, mkdtemp, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { until } from "../../tests/until.ts";
import type { Logger } from "../logger.ts";
import { openKeyring } from "./keyring.ts";
import { keysCommand } from "./keys-command.ts";

async function scene(context: TestContext) {
  const directory = await mkdtemp(join(tmpdir(), "cotenant-keys-"));
  context.after(() => rm(directory, { recursive: true }));
  const path = join(directory, "keys.json");
  /** What the command prints on stdout, by line. */
  const run = async (...args: string[]) => {
    const printed: string[] = [];
    const output = { print: (text: string) => void printed.push(text), say: () => {} };
    await keysCommand([...args, "--keys", path], {}, output);
    return printed;
  };
  const errors: unknown[] = [];
  const quiet = () => {};
  const logger = { debug: quiet, info: quiet, warn: quiet, error: (event: unknown) => errors.push(event) };
  const open = async () => {
    const keyring = await openKeyring(path, logger as unknown as Logger);
    context.after(() => keyring.close());
    return keyring;
  };
  return { path, run, open, errors };
}

const bearer = (key: string | undefined) => `Bearer ${key}`;
const refused = { code: "invalid_api_key" };

function isAccepted(keyring: { authenticate(header: string): unknown }, key: string | undefined): boolean {
  try {
    keyring.authenticate(bearer(key));
    return true;
  } catch {
    return false;
  }
}

test("a key works, its neighbours do not, and the file does not hold it", async (context) => {
  const { path, run, open } = await scene(context);
  const [key] = await run("add", "--tenant", "acme", "--role", "manage");
  const [other] = await run("add", "--tenant", "globex");
  const keyring = await open();
  const { id, role } = keyring.authenticate(bearer(key));
  assert.deepEqual({ id, role }, { id: "acme", role: "manage" });
  assert.equal(keyring.authenticate(`bearer  ${other} `).id, "globex");
  const text = await readFile(path, "utf8");
  assert.ok(!text.includes(key!) && !text.includes(key!.slice(-43)));
  const wrong = key!.replace(/.$/, (last) => (last === "A" ? "B" : "A"));
  const crossed = key!.slice(0, 20) + other!.slice(20); // one's id, the other's secret
  for (const bad of [wrong, crossed, key!.slice(0, -1), `${key}A`, "none", ""]) {
    assert.throws(() => keyring.authenticate(bearer(bad)), /code|key/i, bad);
    assert.equal(isAccepted(keyring, bad), false);
  }
  for (const header of [undefined, key, `Basic ${key}`]) {
    assert.throws(() => keyring.authenticate(header), { code: "missing_api_key" });
  }
});

test("the file is made for its owner alone; a file that is there keeps its mode", {
  skip: process.platform === "win32",
}, async (context) => {
  const { path, run } = await scene(context);
  const mode = async () => (await stat(path)).mode & 0o777;
  await run("add", "--tenant", "acme");
  assert.equal(await mode(), 0o600);
  await chmod(path, 0o640);
  await run("add", "--tenant", "acme");
  assert.equal(await mode(), 0o640);
});

test("commands at the same time lose no key", async (context) => {
  const { run, open } = await scene(context);
  await run("add", "--tenant", "zero");
  const added = await Promise.all(
    Array.from({ length: 12 }, (_, index) => run("add", "--tenant", `tenant-${index}`)),
  );
  const keyring = await open();
  for (const [key] of added) assert.ok(isAccepted(keyring, key));
});

test("a running server takes changes over: added, rotated, revoked", async (context) => {
  const { run, open } = await scene(context);
  const [first] = await run("add", "--tenant", "acme");
  const keyring = await open();
  const [second] = await run("add", "--tenant", "acme");
  await until(() => isAccepted(keyring, second));
  const idOf = (key: string | undefined) => key!.split("-")[1]!;
  const [third] = await run("rotate", "--key", idOf(first));
  await until(() => isAccepted(keyring, third));
  assert.throws(() => keyring.authenticate(bearer(first)), refused);
  const [fourth] = await run("rotate", "--key", idOf(third), "--overlap-hours", "0.0003"); // about a second
  await until(() => isAccepted(keyring, fourth));
  await until(() => !isAccepted(keyring, third));
  await run("revoke", "--key", idOf(second));
  await until(() => !isAccepted(keyring, second));
  const listed = await run("list", "--tenant", "acme");
  assert.equal(listed.length, 2);
  assert.ok(listed.every((line) => /^acme\t[0-9a-f]{16}\tinference\tsince /.test(line)));
  await assert.rejects(run("revoke", "--key", idOf(second)), { code: "bad_keys_file" });
});

test("weight and quotas come from the file, and outlive the commands", async (context) => {
  const { path, run, open } = await scene(context);
  await run("add", "--tenant", "acme");
  const content = JSON.parse(await readFile(path, "utf8"));
  Object.assign(content.tenants[0], { weight: 3, quotas: { tokensPerDay: 7 } });
  await writeFile(path, JSON.stringify(content));
  const [key] = await run("add", "--tenant", "acme");
  const tenant = (await open()).authenticate(bearer(key));
  assert.equal(tenant.weight, 3);
  assert.deepEqual([tenant.quotas.tokensPerDay, tenant.quotas.jobs], [7, null]);
});

test("a broken or vanished file leaves the keys as they were, and is logged once", async (context) => {
  const { path, run, open, errors } = await scene(context);
  const [key] = await run("add", "--tenant", "acme");
  const keyring = await open();
  const good = await readFile(path, "utf8");
  // At once, as the command does: a file that is being written is another broken one, and logged as well.
  const replace = async (content: string) => {
    await writeFile(`${path}.new`, content);
    await rename(`${path}.new`, path);
  };
  await replace('{"tenants": [');
  await until(() => errors.length > 0);
  assert.ok(isAccepted(keyring, key));
  const before = errors.length;
  await rm(path);
  await until(() => errors.length > before);
  for (let again = 0; again < 3; again++) await keyring.look();
  assert.equal(errors.length, before + 1);
  assert.ok(isAccepted(keyring, key));
  await replace(good.replaceAll("acme", "emca"));
  await until(() => keyring.authenticate(bearer(key)).id === "emca");
});

test("what a keys file may not hold is named at the start", async (context) => {
  const { path, open } = await scene(context);
  const key = {
    id: "0".repeat(16),
    hash: "0".repeat(64),
    role: "inference",
    createdAt: "2026-11-21T00:00:00Z",
  };
  const tenant = { id: "acme", keys: [key] };
  const refusals: [content: unknown, message: RegExp][] = [
    [[], /the file: /],
    [{ tenants: [{ ...tenant, id: "" }] }, /tenants\.0\.id/],
    [{ tenants: [{ ...tenant, weight: 0 }] }, /tenants\.0\.weight/],
    [{ tenants: [{ ...tenant, quotas: { tokensPerHour: 1 } }] }, /tokensPerHour/],
    [{ tenants: [{ ...tenant, keys: [{ ...key, role: "root" }] }] }, /keys\.0\.role/],
    [{ tenants: [tenant, { ...tenant, id: "other" }] }, /key 0{16} is there twice/],
    [{ tenants: [tenant, { id: "acme", keys: [] }] }, /tenant acme is there twice/],
  ];
  await assert.rejects(open(), /cotenant keys add/);
  for (const [content, message] of refusals) {
    await writeFile(path, JSON.stringify(content));
    await assert.rejects(open(), { code: "bad_keys_file", message });
  }
});

test("wrong usage is refused before anything is written", async (context) => {
  const { path, run } = await scene(context);
  const wrong: [args: string[], message: RegExp][] = [
    [["ad"], /unknown action ad; did you mean add\?/],
    [["add"], /give --tenant NAME/],
    [["add", "--tenant", "a/b"], /--tenant must be/],
    [["add", "--tenant", "a", "--role", "manager"], /did you mean manage\?/],
    [["add", "--tenat", "a"], /--tenat/],
    [["rotate"], /give --key ID/],
  ];
  for (const [args, message] of wrong) await assert.rejects(run(...args), { message });
  await assert.rejects(keysCommand(["add", "--tenant", "a"], {}), /give --keys FILE/);
  await assert.rejects(stat(path));
});
