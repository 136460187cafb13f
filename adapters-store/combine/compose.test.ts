// Composition against the definition: the change of every weight is the weighted sum of the parts' changes.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type DecodedAdapter, type Projection, projections } from "../../kernels/adapter.ts";
import { randomAdapter, randomAdapterCount } from "../../tests/golden/random-adapters.ts";
import { fixtureTargets as targets } from "../peft-fixture.ts";
import { composeAdapters } from "./compose.ts";

/** What an adapter does to one matrix [out, in], beside scales. */
function deltaOf(adapter: DecodedAdapter, layer: number, projection: Projection): number[] {
  const { in: width, out } = targets.shapes[projection];
  const delta = Array<number>(width * out).fill(0);
  const add = (row: number, column: number, value: number) => {
    delta[row * width + column]! += value;
  };
  for (const module of adapter.modules) {
    if (!("projection" in module) || module.layer !== layer || module.projection !== projection) continue;
    for (let row = 0; row < out; row++) {
      if (module.kind === "low-rank") {
        for (let rank = 0; rank < module.rank; rank++) {
          for (let i = 0; i < width; i++)
            add(row, i, module.a[rank * width + i]! * module.b[rank * out + row]!);
        }
      } else if (module.kind === "channels") {
        for (const [at, channel] of module.channels.entries()) add(row, channel, module.b[at * out + row]!);
      }
    }
    if (module.kind === "sparse") {
      for (const [at, index] of module.indices.entries()) delta[index]! += module.values[at]!;
    }
  }
  return delta;
}

/** Rows of a [n, rank] times b [rank, m]. */
function product(a: Float32Array, b: Float32Array, rank: number): number[] {
  const width = b.length / rank;
  return Array.from({ length: (a.length / rank) * width }, (_, index) => {
    let sum = 0;
    for (let r = 0; r < rank; r++)
      sum += a[Math.floor(index / width) * rank + r]! * b[r * width + (index % width)]!;
    return sum;
  });
}

const kindsOf = (adapter: DecodedAdapter) => new Set(adapter.modules.map(({ kind }) => kind));
const composable = Array.from({ length: randomAdapterCount }, (_, index) =>
  randomAdapter(targets, index),
).filter(
  (adapter) => !["scale", "prefix", "soft-prompt"].some((kind) => kindsOf(adapter).has(kind as never)),
);

test("the change of every projection is the weighted sum, per layer", () => {
  assert.ok(composable.length > 12);
  for (const [index, first] of composable.entries()) {
    const second = composable[(index + 5) % composable.length]!;
    const weights = [(layer: number | null) => (layer === 1 ? 0.5 : -2), () => 0.25];
    const composed = composeAdapters([
      { adapter: first, weightOf: weights[0]! },
      { adapter: second, weightOf: weights[1]! },
    ]);
    for (let layer = 0; layer < targets.layers; layer++) {
      for (const projection of projections) {
        const found = deltaOf(composed, layer, projection);
        const one = deltaOf(first, layer, projection);
        const two = deltaOf(second, layer, projection);
        for (const [at, value] of found.entries()) {
          const expected = weights[0]!(layer) * one[at]! + 0.25 * two[at]!;
          assert.ok(Math.abs(value - expected) < 1e-4 * (1 + Math.abs(expected)), `${projection} ${at}`);
        }
      }
    }
  }
});

test("embeddings and head are weighted sums", () => {
  const withBoth = { modules: [13, 14].flatMap((index) => randomAdapter(targets, index).modules) };
  assert.deepEqual([...kindsOf(withBoth)], ["head", "embedding"]);
  const composed = composeAdapters([
    { adapter: withBoth, weightOf: (layer) => (layer === null ? 3 : 1) },
    { adapter: withBoth, weightOf: () => 0.5 },
  ]);
  for (const kind of ["embedding", "head"] as const) {
    const of = (adapter: DecodedAdapter) => adapter.modules.find((module) => module.kind === kind)!;
    const [found, own] = [of(composed), of(withBoth)];
    assert.ok(found.kind === kind && own.kind === kind);
    assert.equal(found.rank, 2 * own.rank);
    if (kind === "head") continue; // [rank, hidden] stacks as low-rank modules do
    const [changed, before] = [product(found.a, found.b, found.rank), product(own.a, own.b, own.rank)];
    for (const [at, value] of changed.entries()) assert.ok(Math.abs(value - 3.5 * before[at]!) < 1e-4);
  }
});

test("scales have a sum with each other, with nothing beside them, nor have virtual tokens", () => {
  const scales = randomAdapter(targets, 11);
  assert.deepEqual([...kindsOf(scales)], ["scale"]);
  const composed = composeAdapters([
    { adapter: scales, weightOf: () => 0.5 },
    { adapter: scales, weightOf: () => -2 },
  ]);
  assert.equal(composed.modules.length, scales.modules.length);
  for (const [index, own] of scales.modules.entries()) {
    const found = composed.modules[index]!;
    assert.ok(own.kind === "scale" && found.kind === "scale");
    for (const [at, scale] of found.scale.entries()) {
      assert.ok(Math.abs(scale - (1 - 1.5 * (own.scale[at]! - 1))) < 1e-5);
      if (own.shift !== null) assert.ok(Math.abs(found.shift![at]! + 1.5 * own.shift[at]!) < 1e-5);
    }
    assert.equal(found.shift === null, own.shift === null);
  }
  const refused = { code: "adapters_not_composable" };
  const part = (adapter: DecodedAdapter) => ({ adapter, weightOf: () => 1 });
  for (const index of [15, 18, 19])
    assert.throws(() => composeAdapters([part(randomAdapter(targets, index))]), refused);
  const { layer, projection } = scales.modules[0] as { layer: number; projection: Projection };
  const beside = composable.find(({ modules }) =>
    modules.some(
      (module) => "projection" in module && module.layer === layer && module.projection === projection,
    ),
  )!;
  assert.throws(() => composeAdapters([part(scales), part(beside)]), refused);
  const withoutScales = { adapter: scales, weightOf: () => 0 };
  assert.doesNotThrow(() => composeAdapters([withoutScales, part(beside)]));
});

test("weight zero leaves nothing", () => {
  assert.deepEqual(composeAdapters([{ adapter: composable[0]!, weightOf: () => 0 }]), { modules: [] });
});
