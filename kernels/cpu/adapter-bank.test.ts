// The slots against what is wanted, after any sequence of holds: each wanted copy owns its rank blocks, filled up
// with zeros, in a contiguous range, and nobody else owns anything.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type AdapterTargets, type DecodedAdapter, type Projection, projections } from "../adapter.ts";
import { type BankCopy, keyOf } from "../held-copies.ts";
import { SiteAdapter } from "../site-adapter.ts";
import { AdapterBank, rankBlock } from "./adapter-bank.ts";

const layers = 2;
const shapes = Object.fromEntries(
  projections.map((projection, index) => [
    projection,
    { in: projection === "down" ? 5 : 3, out: 2 + (index % 3) },
  ]),
) as AdapterTargets["shapes"];
const targets: AdapterTargets = { layers, shapes, hiddenSize: 3, vocabSize: 7, kvHeads: 1, headDim: 2 };

function adapterOf(ranks: Partial<Record<Projection, readonly number[]>>, seed: number): DecodedAdapter {
  let value = seed * 10_000;
  const values = (length: number) => Float32Array.from({ length }, () => ++value);
  const modules = projections.flatMap((projection) =>
    (ranks[projection] ?? []).flatMap((rank, layer) => {
      const { in: inWidth, out } = shapes[projection];
      return rank === 0
        ? []
        : [
            {
              kind: "low-rank" as const,
              layer,
              projection,
              rank,
              a: values(rank * inWidth),
              b: values(rank * out),
            },
          ];
    }),
  );
  return { modules };
}

const adapters = new Map<string, SiteAdapter>(
  (
    [
      { q: [4, 4], v: [4, 4] },
      { q: [1, 1], k: [33, 9], o: [8, 0], gate: [16, 16], up: [16, 17], down: [3, 3] },
      { down: [0, 24] },
      { gate: [9, 2], up: [7, 1] },
    ] satisfies Partial<Record<Projection, number[]>>[]
  ).map((ranks, index) => [`v${index}`, new SiteAdapter(adapterOf(ranks, index + 1), targets)]),
);

const copy: fc.Arbitrary<BankCopy> = fc.record({
  version: fc.constantFrom(...adapters.keys()),
  copy: fc.nat(3),
});
const wantedCopies = fc.uniqueArray(copy, { maxLength: 9, selector: keyOf });

test("the slots hold exactly what is wanted after any sequence of holds", () => {
  let moved = 0;
  fc.assert(
    fc.property(fc.array(wantedCopies, { minLength: 1, maxLength: 8 }), (holds) => {
      const bank = new AdapterBank(targets);
      let held = new Set<string>();
      for (const wanted of holds) {
        const { generation, loads, unloads } = bank;
        bank.hold(wanted, adapters);
        const keys = new Set(wanted.map(keyOf));
        assert.equal(bank.loads - loads, [...keys].filter((key) => !held.has(key)).length);
        assert.equal(bank.unloads - unloads, [...held].filter((key) => !keys.has(key)).length);
        assert.equal(bank.generation - generation, bank.loads - loads + bank.unloads - unloads);
        if (bank.unloads > unloads && keys.size > 0) moved++;
        assert.deepEqual(new Set(bank.versions), new Set(wanted.map(({ version }) => version)));
        checkSlots(bank, wanted);
        held = keys;
      }
    }),
    { seed: 1, numRuns: 300 },
  );
  assert.ok(moved > 100);
});

test("a released version leaves every slot, and the others stay whole", () => {
  const bank = new AdapterBank(targets);
  const copies = ["v0", "v1", "v0", "v3", "v1"].map((version, copy) => ({ version, copy }));
  bank.hold(copies, adapters);
  bank.release("v0", adapters);
  checkSlots(
    bank,
    copies.filter(({ version }) => version !== "v0"),
  );
  bank.hold([], new Map(adapters));
  assert.deepEqual(bank.versions, []);
});

test("an exchange that fails half-way leaves nothing behind, and the next one is whole", () => {
  const bank = new AdapterBank(targets);
  const copies = ["v0", "v3"].map((version) => ({ version, copy: 0 }));
  bank.hold(copies, adapters);
  const broken = new SiteAdapter(adapterOf({ q: [4, 4], down: [4, 4] }, 9), targets);
  const stack = broken.stack.bind(broken);
  broken.stack = (layer, site) => {
    if (site === "down") throw new RangeError("Array buffer allocation failed");
    return stack(layer, site);
  };
  const { generation } = bank;
  const withBroken = new Map([...adapters, ["broken", broken]]);
  assert.throws(() => bank.hold([copies[0]!, { version: "broken", copy: 0 }], withBroken), RangeError);
  assert.ok(bank.generation > generation);
  assert.deepEqual(bank.versions, []);
  bank.hold(copies, adapters);
  checkSlots(bank, copies);
});

function checkSlots(bank: AdapterBank, wanted: readonly BankCopy[]): void {
  for (const siteBank of bank.sites) {
    const { site, slots } = siteBank;
    const blocksOf = (version: string) => Math.ceil(adapters.get(version)!.rank(site.name) / rankBlock);
    const expected = wanted.flatMap((one) =>
      Array.from({ length: blocksOf(one.version) }, (_, block) => `${keyOf(one)}/${block}`),
    );
    assert.deepEqual(slots.map(({ owner, block }) => `${owner}/${block}`).sort(), expected.sort());
    for (const owner of new Set(slots.map((slot) => slot.owner))) {
      const blocks = slots.filter((slot) => slot.owner === owner).map((slot) => slot.block);
      assert.deepEqual(
        blocks,
        blocks.toSorted((one, other) => one - other),
        "blocks are summed in their order",
      );
    }
    for (let layer = 0; layer < siteBank.site.layers; layer++) {
      const { a, b } = siteBank.layer(layer);
      assert.equal(a.length, slots.length * rankBlock * site.in);
      assert.equal(b.length, slots.length * rankBlock * site.out);
      for (const [slot, { owner, block }] of slots.entries()) {
        const stack = adapters.get(owner.split("#")[0]!)!.stack(layer, site.name);
        assert.deepEqual(slotValues(a, slot, site.in), padded(stack.a, block, site.in));
        assert.deepEqual(slotValues(b, slot, site.out), padded(stack.b, block, site.out));
      }
    }
  }
}

const slotValues = (array: Float32Array, slot: number, width: number) => [
  ...array.subarray(slot * rankBlock * width, (slot + 1) * rankBlock * width),
];

function padded(stack: Float32Array, block: number, width: number): number[] {
  return Array.from({ length: rankBlock * width }, (_, i) => stack[block * rankBlock * width + i] ?? 0);
}
