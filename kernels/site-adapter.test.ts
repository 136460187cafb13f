import assert from "node:assert/strict";
import { test } from "node:test";
import { type AdapterTargets, type LowRankModule, type Projection, projections } from "./adapter.ts";
import { SiteAdapter } from "./site-adapter.ts";

const shapes = Object.fromEntries(
  projections.map((name) => [name, { in: 2, out: 3 }]),
) as AdapterTargets["shapes"];
const targets: AdapterTargets = {
  layers: 2,
  shapes,
  hiddenSize: 2,
  vocabSize: 7,
  kvHeads: 1,
  headDim: 2,
};

function module(layer: number, projection: Projection, rank: number, first: number): LowRankModule {
  const values = (length: number, from: number) => Float32Array.from({ length }, (_, i) => from + i);
  return {
    kind: "low-rank",
    layer,
    projection,
    rank,
    a: values(rank * 2, first),
    b: values(rank * 3, first + 50),
  };
}

test("q, k and v become one stack whose ranks write each their own columns", () => {
  const adapter = new SiteAdapter({ modules: [module(1, "v", 1, 300), module(1, "q", 2, 100)] }, targets);
  const { rank, a, b } = adapter.stack(1, "qkv");
  assert.equal(rank, 3);
  assert.deepEqual([...a], [100, 101, 102, 103, 300, 301]);
  assert.deepEqual(
    [...b],
    [
      [150, 151, 152, 0, 0, 0, 0, 0, 0],
      [153, 154, 155, 0, 0, 0, 0, 0, 0],
      [0, 0, 0, 0, 0, 0, 350, 351, 352],
    ].flat(),
  );
  assert.equal(adapter.stack(0, "qkv").rank, 0);
  assert.equal(adapter.rank("qkv"), 3);
  assert.equal(adapter.rank("down"), 0);
});

test("a site with one projection is the module itself; the rank is that of the widest layer", () => {
  const down = module(0, "down", 4, 0);
  const adapter = new SiteAdapter({ modules: [down, module(1, "down", 7, 0)] }, targets);
  assert.equal(adapter.stack(0, "down").a, down.a);
  assert.equal(adapter.rank("down"), 7);
});
