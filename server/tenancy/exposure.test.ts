import assert from "node:assert/strict";
import { test } from "node:test";
import { checkExposure, isLocalOnly } from "./exposure.ts";

const local = {
  host: "127.0.0.1",
  adminHost: "127.0.0.1",
  adminPort: null,
  keys: null,
  insecureNoKeys: "no",
} as const;

test("without keys the server says that only this machine reaches it", () => {
  for (const host of ["127.0.0.1", "127.1.2.3", "localhost", "::1"]) {
    assert.match(checkExposure({ ...local, host })!, /loopback only/);
  }
});

test("an address that others reach needs keys, or a word that none are wanted", () => {
  for (const host of ["0.0.0.0", "::", "192.168.0.1", "127.0.0.1.example.com", "localhost.example.com"]) {
    const error = { code: "keys_missing", message: /cotenant keys add .* --insecure-no-keys yes/ };
    assert.throws(() => checkExposure({ ...local, host }), error);
    assert.equal(checkExposure({ ...local, host, keys: "keys.json" }), null);
    assert.match(checkExposure({ ...local, host, insecureNoKeys: "yes" })!, /^warning: whoever reaches/);
  }
});

test("the admin listener's address counts where there is one", () => {
  const wide = { ...local, adminHost: "0.0.0.0" };
  assert.ok(checkExposure(wide));
  assert.throws(() => checkExposure({ ...wide, adminPort: 0 }), { code: "keys_missing" });
});

test("web pages are kept out where no key and no proxy does it", () => {
  assert.equal(isLocalOnly(local), true);
  assert.equal(isLocalOnly({ ...local, keys: "keys.json" }), false);
  assert.equal(isLocalOnly({ ...local, insecureNoKeys: "yes" }), false);
});
