// What lies in slots against what the modules mean: the products that the graph makes of them, in plain loops.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type AdapterTargets, type DecodedAdapter, modulesOf, projections } from "../adapter.ts";
import { addEmbedding } from "../adapter-embedding.ts";
import { rankBlock } from "../cpu/adapter-bank.ts";
import { randomAt } from "../sampling/random.ts";
import { SiteAdapter } from "../site-adapter.ts";
import { segmentWidth } from "../sparse-segments.ts";
import {
  embeddingBlocks,
  embeddingRanksOf,
  mostTokensOf,
  type SlotAdapter,
  type SlotKind,
  SlotKinds,
} from "./gpu-slot-kinds.ts";

const shape = { in: 40, out: 6 };
const targets: AdapterTargets = {
  layers: 2,
  shapes: Object.fromEntries(
    projections.map((projection) => [projection, shape]),
  ) as unknown as AdapterTargets["shapes"],
  hiddenSize: 5,
  vocabSize: 9,
  kvHeads: 1,
  headDim: 2,
};
const kinds = new SlotKinds(targets);
const down = kinds.sites.find(({ site }) => site.name === "down")!;

const values = (count: number, seed: number) =>
  Float32Array.from({ length: count }, (_, index) => randomAt(seed, index) - 0.5);

const slotAdapter = (adapter: DecodedAdapter): SlotAdapter => ({
  sites: new SiteAdapter(adapter, targets),
  embeddings: modulesOf(adapter, "embedding"),
});

const close = (found: number, expected: number) =>
  assert.ok(Math.abs(found - expected) <= 1e-5, `${found} is not ${expected}`);

test("a sparse slot's segments, summed by output, are the change", () => {
  const places = fc.uniqueArray(fc.nat(shape.in * shape.out - 1), { minLength: 1, maxLength: 200 });
  fc.assert(
    fc.property(places, fc.nat(1000), (chosen, seed) => {
      const indices = Uint32Array.from(chosen).sort();
      const changes = values(indices.length, seed);
      const adapter = slotAdapter({
        modules: [{ kind: "sparse", layer: 1, projection: "down", indices, values: changes }],
      });
      const x = values(shape.in, seed + 1);
      const expected = new Float64Array(shape.out);
      for (const [entry, index] of indices.entries()) {
        expected[Math.floor(index / shape.in)]! += changes[entry]! * x[index % shape.in]!;
      }
      for (const [layer, wanted] of [new Float64Array(shape.out), expected].entries()) {
        const found = sparseProduct(down.changes!.sparse, adapter, layer, x);
        for (const [output, value] of wanted.entries()) close(found[output]!, value);
      }
    }),
  );
});

/** As the graph computes it of one slot. */
function sparseProduct(kind: SlotKind, adapter: SlotAdapter, layer: number, x: Float32Array): Float64Array {
  const [columns, entries, segments] = kind.contents(adapter, layer);
  assert.ok([...entries!.subarray(0, segmentWidth)].every((value) => value === 0));
  const sums = Float64Array.from({ length: entries!.length / segmentWidth }, (_, segment) => {
    const at = Array.from({ length: segmentWidth }, (__, entry) => segment * segmentWidth + entry);
    return at.reduce((sum, entry) => sum + entries![entry]! * x[columns![entry]!]!, 0);
  });
  const found = new Float64Array(shape.out);
  for (const [index, segment] of segments!.entries()) found[index % shape.out]! += sums[segment]!;
  return found;
}

test("an embedding's slots, weighed by what they read of a token, are the change", () => {
  const { hiddenSize, vocabSize } = targets;
  const modules = [3, rankBlock, 2 * rankBlock + 1].map((rank) => ({
    kind: "embedding" as const,
    rank,
    a: values(vocabSize * rank, rank),
    b: values(rank * hiddenSize, rank + 1),
  }));
  const adapter = slotAdapter({ modules });
  const [b] = kinds.embedding.contents(adapter, 0);
  const blocks = embeddingBlocks(adapter);
  assert.equal(kinds.embedding.slotsOf(adapter), 1 + 1 + 3);
  for (let token = 0; token < vocabSize; token++) {
    const expected = new Float32Array(hiddenSize);
    for (const module of modules) addEmbedding(module, [token], expected);
    const found = new Float64Array(hiddenSize);
    for (const [slot, block] of blocks.entries()) {
      for (const [rank, weight] of embeddingRanksOf(block, token).entries()) {
        for (let i = 0; i < hiddenSize; i++) {
          found[i]! += weight * b![(slot * rankBlock + rank) * hiddenSize + i]!;
        }
      }
    }
    for (const [i, value] of expected.entries()) close(found[i]!, value);
  }
});

test("an adapter takes slots only of the kinds that it has, and one without has neutral scales", () => {
  const scale = values(shape.out, 1);
  const scaled = slotAdapter({
    modules: [{ kind: "scale", layer: 1, projection: "down", scale, shift: null }],
  });
  const taken = kinds.all.filter((kind) => kind.slotsOf(scaled) > 0);
  assert.deepEqual(taken, [down.changes!.scale]);
  const [ones, zeros] = [new Float32Array(shape.out).fill(1), new Float32Array(shape.out)];
  assert.deepEqual(down.changes!.scale.contents(scaled, 0), [ones, zeros]);
  assert.deepEqual(down.changes!.scale.contents(scaled, 1), [scale, zeros]);
  assert.ok(mostTokensOf(scaled, kinds) >= 2 ** 20);
});

test("of a prompt, no more tokens run at once than the entries of a sparse change leave room for", () => {
  const wide = { ...targets, shapes: { ...targets.shapes, down: { in: 4096, out: 64 } } };
  const indices = Uint32Array.from({ length: 2 ** 17 }, (_, index) => index * 2);
  const module = {
    kind: "sparse",
    layer: 0,
    projection: "down",
    indices,
    values: values(2 ** 17, 1),
  } as const;
  const adapter = { sites: new SiteAdapter({ modules: [module] }, wide), embeddings: [] };
  const most = mostTokensOf(adapter, new SlotKinds(wide));
  assert.ok(most >= 16 && (most + 1) * (2 ** 17 + segmentWidth) >= 2 ** 25, `${most}`);
  assert.ok(most * (2 ** 17 + segmentWidth) <= 2 ** 25, `${most}`);
});
