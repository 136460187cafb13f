import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { archiveWriters, type FixtureEntry, tarOf, zipOf } from "./archive-fixture.ts";
import { archiveFormats } from "./index.ts";
import { type UnpackLimits, unpackArchive } from "./unpack.ts";

const root = mkdtempSync(join(tmpdir(), "cotenant-archives-"));
after(() => rmSync(root, { recursive: true }));
let count = 0;

const config = { name: "adapter_config.json", content: Buffer.from('{"r":2}') };
const weights = {
  name: "adapter_model.safetensors",
  content: Buffer.from(Array.from({ length: 70_000 }, (_, i) => (i * i) % 256)),
};

for (const format of Object.keys(archiveFormats) as (keyof typeof archiveFormats)[]) {
  const archiveOf = archiveWriters[format];

  test(`${format}: files come out as they went in, with and without one folder around them`, async () => {
    const bare = [config, weights];
    const inFolder = bare.map((entry) => ({ ...entry, name: `orders/${entry.name}` }));
    const folder = { name: "orders/", tarType: "5", unixMode: 0o040755 };
    const dotted = bare.map((entry) => ({ ...entry, name: `./${entry.name}` }));
    for (const entries of [bare, inFolder, [folder, ...inFolder], dotted]) {
      const files = await unpack(archiveOf(entries));
      assert.deepEqual(files, new Map(bare.map(({ name, content }) => [name, content])));
    }
    assert.deepEqual(
      await unpack(archiveOf([])).catch(codeOf),
      format === "tar" ? "archive_format_unknown" : new Map(),
    );
  });

  test(`${format}: names that lead elsewhere are refused`, async () => {
    const names = [
      "/etc/passwd",
      "../x",
      "a/../../x",
      "a/../x",
      "..",
      ".",
      "a\\..\\x",
      "C:\\x",
      "a//x",
      "a/b/c",
      "a\0b",
      "-x",
      "é",
      "x".repeat(200),
    ];
    for (const name of names.filter(
      (each) => format === "zip" || (each.length < 100 && !each.includes("\0")),
    )) {
      await refused(archiveOf([config, { ...weights, name }]), "archive_path_invalid", name);
    }
    await refused(archiveOf([config, { ...weights, name: "a/w" }]), "archive_path_invalid");
    await refused(
      archiveOf([
        { ...config, name: "a/c" },
        { ...weights, name: "b/w" },
      ]),
      "archive_path_invalid",
    );
  });

  test(`${format}: the same name twice is refused`, async () => {
    await refused(archiveOf([config, weights, config]), "adapter_file_duplicate");
  });

  test(`${format}: too many bytes, entries, or bytes for its size are refused`, async () => {
    const limits = { totalBytes: 100_000, entries: 3, ratio: 1000, freeBytes: 0 };
    await unpack(archiveOf([config, weights]), limits);
    await refused(archiveOf([config, weights, { ...weights, name: "w2" }]), "archive_too_large", limits);
    const many = Array.from({ length: 4 }, (_, i) => ({ name: `f${i}`, content: Buffer.from("x") }));
    await refused(archiveOf(many), "archive_too_large", limits);
    const zeros = { name: "zeros", content: Buffer.alloc(30_000_000) };
    const outcome = await unpack(archiveOf([zeros])).catch(codeOf);
    assert.deepEqual(outcome, format === "tar" ? new Map([["zeros", zeros.content]]) : "archive_too_large");
  });

  test(`${format}: cut short anywhere, it is refused or has lost nothing`, async () => {
    const whole = archiveOf([config, weights]);
    const expected = await unpack(whole);
    for (let length = 1; length < whole.length; length += 997) {
      const outcome = await unpack(whole.subarray(0, length)).catch(codeOf);
      if (typeof outcome === "string")
        assert.match(outcome, /^archive_(malformed|format_unknown)$/, `${length}`);
      else assert.deepEqual(outcome, expected);
    }
  });
}

test("links, devices and pipes are refused", async () => {
  for (const tarType of ["1", "2", "3", "4", "6"]) {
    await refused(tarOf([config, { name: "link", tarType }]), "archive_path_invalid");
  }
  for (const type of [0o120000, 0o060000, 0o010000]) {
    await refused(
      zipOf([config, { name: "link", content: Buffer.from("/etc/passwd"), unixMode: type | 0o644 }]),
      "archive_path_invalid",
    );
  }
});

test("a header that wants much memory is refused before it has it", async () => {
  const pax: FixtureEntry = { name: "pax", tarType: "x", content: Buffer.alloc(20_000_000, "1") };
  await refused(tarOf([pax, config]), "archive_malformed");
});

test("gzip that goes on behind the files, or in a folder, is refused before it is unpacked", async () => {
  const zeros = Buffer.alloc(100_000_000);
  await refused(gzipSync(Buffer.concat([tarOf([config]), zeros])), "archive_malformed");
  const folder = { name: "orders/", tarType: "5", content: zeros };
  await refused(gzipSync(tarOf([config, folder])), "archive_path_invalid");
});

test("a zip's checksum is checked", async () => {
  const bytes = zipOf([weights]);
  const at = bytes.indexOf("PK\x01\x02") + 16; // the list's copy of the checksum
  bytes[at]! ^= 1;
  await refused(bytes, "archive_malformed");
});

test("other formats are refused by name", async () => {
  for (const bytes of [
    brotliCompressSync(tarOf([config])),
    Buffer.from("x"),
    Buffer.alloc(0),
    Buffer.alloc(2000),
  ]) {
    await refused(bytes, "archive_format_unknown");
  }
});

test("what tar and its relatives write is read", async () => {
  const folder = join(root, "orders");
  mkdirSync(folder);
  for (const { name, content } of [config, weights]) writeFileSync(join(folder, name), content);
  for (const style of ["ustar", "gnu", "posix"]) {
    const archive = join(root, `${style}.tar`);
    try {
      execFileSync("tar", [`--format=${style}`, "-cf", archive, "-C", root, "orders"], { stdio: "ignore" });
    } catch {
      continue; // another tar than GNU's
    }
    assert.equal((await unpack(readFileSync(archive))).size, 2, style);
  }
});

async function unpack(bytes: Uint8Array, limits?: UnpackLimits): Promise<Map<string, Buffer>> {
  const path = join(root, `archive-${++count}`);
  writeFileSync(path, bytes);
  const folder = join(root, `unpacked-${count}`);
  const before = new Set(readdirSync(root));
  try {
    const files = await unpackArchive(path, folder, limits);
    return new Map(files.map((file) => [file.name, readFileSync(file.path)]));
  } finally {
    const made = readdirSync(root).filter((name) => !before.has(name));
    assert.ok(
      made.every((name) => join(root, name) === folder),
      `made ${made}`,
    );
    rmSync(folder, { recursive: true, force: true });
    rmSync(path);
  }
}

async function refused(bytes: Uint8Array, code: string, detail?: string | UnpackLimits): Promise<void> {
  const limits = typeof detail === "object" ? detail : undefined;
  await assert.rejects(unpack(bytes, limits), { code }, typeof detail === "string" ? detail : undefined);
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : String(error);
}
