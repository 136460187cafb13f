import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { fingerprintCheckpoint } from "./fingerprint.ts";
import { tensorOf, writeSafetensors } from "./write-safetensors.ts";

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "cotenant-fingerprint-"));
  writeFileSync(join(directory, "config.json"), "{}");
  writeWeights(1);
});
afterEach(() => rmSync(directory, { recursive: true }));

test("depends on config and weights alone", () => {
  const first = fingerprint("cache-a");
  assert.match(first, /^[0-9a-f]{64}$/);
  writeFileSync(join(directory, "README.md"), "a card");
  assert.equal(fingerprint("cache-b"), first);
  writeWeights(2);
  const second = fingerprint("cache-a");
  assert.notEqual(second, first);
  writeFileSync(join(directory, "config.json"), "{ }");
  assert.notEqual(fingerprint("cache-a"), second);
});

test("remembers a file until it changes, also where the change keeps size and mtime", () => {
  const path = join(directory, "model.safetensors");
  utimesSync(path, 1_000, 1_000);
  const first = fingerprint("cache");
  const remembered = readdirSync(join(directory, "cache", "fingerprints"));
  assert.equal(fingerprint("cache"), first);
  assert.deepEqual(readdirSync(join(directory, "cache", "fingerprints")), remembered);
  writeWeights(2);
  utimesSync(path, 1_000, 1_000);
  assert.notEqual(fingerprint("cache"), first);
});

test("reports progress up to the whole", () => {
  const reports: [number, number][] = [];
  fingerprintCheckpoint({
    directory,
    cacheDirectory: join(directory, "cache"),
    onProgress: (done, total) => reports.push([done, total]),
  });
  const [done, total] = reports.at(-1)!;
  assert.equal(done, total);
});

test("refuses a directory without config.json", () => {
  rmSync(join(directory, "config.json"));
  assert.throws(() => fingerprint("cache"), { code: "missing_config" });
});

function writeWeights(value: number): void {
  writeSafetensors(join(directory, "model.safetensors"), [tensorOf("w", [1], Float32Array.of(value))]);
}

function fingerprint(cache: string): string {
  return fingerprintCheckpoint({ directory, cacheDirectory: join(directory, cache) });
}
