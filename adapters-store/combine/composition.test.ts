import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  compositionOf,
  type LayerRange,
  mostAdapters,
  parseComposition,
  plainVersion,
  weightOf,
} from "./composition.ts";

const layers = 6;

test("what is given is what is parsed, with the weight of a range in its layers alone", () => {
  const given = [
    { id: "a", weight: 0.5 },
    {
      id: "b",
      weight: -1,
      layers: [
        { from: 4, to: 5, weight: 2 },
        { from: 0, to: 0, weight: 0 },
      ],
    },
  ];
  const parsed = parseComposition(given, layers);
  assert.deepEqual(parsed, given);
  const versions = parsed.map(({ id, ...rest }) => ({ ...rest, version: `version-${id}` }));
  const { parts } = compositionOf(versions, layers);
  const weights = parts.map((part) => [null, 0, 1, 2, 3, 4, 5].map((layer) => weightOf(part, layer)));
  assert.deepEqual(weights, [
    [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5],
    [-1, 0, -1, -1, -1, 2, 2],
  ]);
  assert.deepEqual(structuredClone(parts), parts); // it goes to a thread
});

test("the key is that of the content: order, ranges and names of one weight do not matter", () => {
  const weight = fc.constantFrom(-1, 0, 0.1, 0.2, 0.3, 1);
  const version = fc.record({
    version: fc.constantFrom("x", "y", "z"),
    weight,
    layers: fc.oneof(
      fc.constant([]),
      fc.record({ from: fc.nat(2), to: fc.constantFrom(2, 5), weight }).map((range) => [range]),
    ),
  });
  const lists = fc.array(version, { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(lists, lists, fc.nat(), (list, other, rotation) => {
      const found = compositionOf(list, layers);
      const at = rotation % list.length;
      const rotated = [...list.slice(at), ...list.slice(0, at)];
      assert.deepEqual(compositionOf(rotated, layers), found);
      const spelled = list.map((each) => ({
        ...each,
        layers: Array.from({ length: layers }, (_, layer) => {
          const ranges: readonly LayerRange[] = each.layers;
          const range = ranges.find(({ from, to }) => from <= layer && layer <= to);
          return { from: layer, to: layer, weight: range?.weight ?? each.weight };
        }),
      }));
      assert.deepEqual(compositionOf(spelled, layers), found);
      const different = compositionOf(other, layers);
      const sameParts = JSON.stringify(different.parts) === JSON.stringify(found.parts);
      assert.equal(different.key === found.key, sameParts);
    }),
  );
});

test("one version twice is one part; nothing of weight zero is left", () => {
  const { parts } = compositionOf(
    [
      { version: "x", weight: 0.25 },
      { version: "y", weight: 0 },
      { version: "x", weight: 0.75 },
    ],
    2,
  );
  assert.deepEqual(parts, [{ version: "x", weight: 1, layerWeights: [1, 1] }]);
  const both = [
    { version: "x", weight: 1 },
    { version: "x", weight: -1 },
  ];
  assert.deepEqual(compositionOf(both, 2).parts, []);
});

test("an adapter alone with weight one is that adapter", () => {
  const of = (...list: Parameters<typeof compositionOf>[0]) => plainVersion(compositionOf(list, layers));
  assert.equal(of({ version: "x", weight: 1 }), "x");
  assert.equal(of({ version: "x", weight: 1 }, { version: "y", weight: 0 }), "x");
  assert.equal(of({ version: "x", weight: 1, layers: [{ from: 1, to: 2, weight: 0.5 }] }), null);
  assert.equal(of({ version: "x", weight: 1 }, { version: "y", weight: 1 }), null);
  assert.equal(of({ version: "x", weight: 0 }), null);
});

test("what is no composition is refused with its place", () => {
  const range = { from: 0, to: 1, weight: 1 };
  const cases: [given: unknown, place: RegExp][] = [
    [undefined, /adapters must/],
    [[], /1 to 16/],
    [Array(mostAdapters + 1).fill({ id: "a", weight: 1 }), /1 to 16/],
    [[{ id: "a", weight: 1 }, null], /adapters\[1\] must/],
    [[{ id: "", weight: 1 }], /adapters\[0\]\.id/],
    [[{ id: "a" }], /adapters\[0\]\.weight/],
    [[{ id: "a", weight: "1" }], /adapters\[0\]\.weight/],
    [[{ id: "a", weight: Number.NaN }], /adapters\[0\]\.weight/],
    [[{ id: "a", weight: 1e39 }], /adapters\[0\]\.weight/], // beyond float32
    [[{ id: "a", weight: 1, scale: 2 }], /adapters\[0\]\.scale is not known/],
    [[{ id: "a", weight: 1, layers: {} }], /adapters\[0\]\.layers/],
    [[{ id: "a", weight: 1, layers: [{ ...range, to: layers }] }], /layers\[0\] must .* 0 to 5/],
    [[{ id: "a", weight: 1, layers: [{ ...range, from: 2 }] }], /layers\[0\]/],
    [[{ id: "a", weight: 1, layers: [{ ...range, from: 0.5 }] }], /layers\[0\]/],
    [[{ id: "a", weight: 1, layers: [{ from: 1, to: 3, weight: 1 }, range] }], /overlap/],
  ];
  for (const [given, message] of cases) {
    assert.throws(() => parseComposition(given, layers), { code: "composition_invalid", message });
  }
  const huge = { version: "x", weight: 3e38 };
  assert.throws(() => compositionOf([huge, huge], layers), { code: "composition_invalid" });
});
