// The reader against a file and values that another reader, written from docs/container.md alone, made of it.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { floatCodecs, indexCodecs } from "../../adapters-store/codecs/index.ts";
import { memorySource } from "../../adapters-store/container/byte-source.ts";
import { fixtureBase } from "../../adapters-store/container/container-fixture.ts";
import { kindLayouts } from "../../adapters-store/container/module-layouts.ts";
import { readContainer } from "../../adapters-store/container/read-container.ts";
import { moduleArrays } from "../../kernels/adapter.ts";

for (const version of [1, 2]) {
  test(`version ${version}: every value is the one that the Python reader reads`, () => compare(version));
}

function compare(version: number): void {
  const read = (extension: string) =>
    readFileSync(join(import.meta.dirname, `version-${version}.${extension}`));
  const expected: Record<string, unknown>[] = read("jsonl")
    .toString()
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  const { adapter, manifest } = readContainer(memorySource(read("cotenant")), fixtureBase);
  assert.equal(adapter.modules.length, expected.length);
  for (const [i, module] of adapter.modules.entries()) {
    const own = moduleArrays(module).map(([name, array]) => [name, Array.from(array, (value) => value + 0)]);
    const place = [
      ["kind", module.kind],
      ...("layer" in module ? [["layer", module.layer]] : []),
      ...("projection" in module ? [["projection", module.projection]] : []),
    ];
    assert.deepEqual(Object.fromEntries([...place, ...own]), withoutNegativeZeros(expected[i]!));
  }
  const codecs = manifest.modules.flatMap(({ tensors }) => Object.values(tensors).map(({ codec }) => codec));
  assert.deepEqual([...new Set(codecs)].sort(), Object.keys({ ...floatCodecs, ...indexCodecs }).sort());
  assert.deepEqual(
    [...new Set(adapter.modules.map(({ kind }) => kind))].sort(),
    Object.keys(kindLayouts).sort(),
  );
}

function withoutNegativeZeros(module: Record<string, unknown>): Record<string, unknown> {
  const plain = (value: unknown) => (Array.isArray(value) ? value.map((each: number) => each + 0) : value);
  return Object.fromEntries(Object.entries(module).map(([name, value]) => [name, plain(value)]));
}
