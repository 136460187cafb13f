// Masks of packed windows against the rule itself: a token sees the tokens of its own sequence, up to itself, and no
// more of them than the layer's window.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { ModelConfig } from "../model-config.ts";
import { cut, TokenLayout } from "./token-layout.ts";

const config: ModelConfig = {
  family: "llama",
  hiddenSize: 8,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  headDim: 4,
  intermediateSize: 8,
  vocabSize: 10,
  maxPositions: 64,
  normEpsilon: 1e-5,
  activation: "silu",
  attentionScale: 0.5,
  embeddingScale: 1,
  tiedHead: false,
  rotaries: [{ theta: 1e4, dimensions: 4, scaling: { type: "default" } }],
  layerRotary: [0, 0],
  layerWindow: [null, 3],
};
const sequenceOf = (length: number, scored: readonly number[] = []) => ({
  tokenIds: Array.from({ length }, (_, at) => at),
  scored,
});

test("masks and positions of every window", () => {
  const lengths = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(lengths, fc.integer({ min: 1, max: 12 }), (sequenceLengths, windowTokens) => {
      const layout = new TokenLayout(
        config,
        sequenceLengths.map((length) => sequenceOf(length)),
        windowTokens,
      );
      const places = sequenceLengths.flatMap((length, sequence) =>
        Array.from({ length }, (_, position) => ({ sequence, position })),
      );
      for (const layer of [0, 1]) {
        const reach = config.layerWindow[layer] ?? Number.POSITIVE_INFINITY;
        for (const window of layout.windows) {
          const mask = layout.mask(layer, window);
          const first = layout.firstSeen(layer, window);
          const keys = window.to - first;
          const count = window.to - window.from;
          assert.equal(mask.length, 2 * count * keys); // two query heads in a group
          for (const [at, value] of mask.entries()) {
            const query = places[window.from + (Math.floor(at / keys) % count)]!;
            const key = places[first + (at % keys)]!;
            const ago = query.position - key.position;
            const isSeen = query.sequence === key.sequence && ago >= 0 && ago < reach;
            assert.equal(value, isSeen ? 0 : Number.NEGATIVE_INFINITY);
          }
          const { cos, half } = layout.rotary(layer, window);
          for (let token = 0; token < count; token++) {
            const { position } = places[window.from + token]!;
            assert.ok(Math.abs(cos[token * half]! - Math.cos(position)) < 1e-6);
          }
        }
      }
    }),
    { numRuns: 50 },
  );
});

test("scored tokens count through all sequences", () => {
  const layout = new TokenLayout(config, [sequenceOf(3, [2]), sequenceOf(5, [1, 4])], 4);
  assert.deepEqual(layout.scored, [
    { at: 2, tokenId: 2 },
    { at: 4, tokenId: 1 },
    { at: 7, tokenId: 4 },
  ]);
});

test("what cannot be trained on is refused", () => {
  const layoutOf = (...sequences: ReturnType<typeof sequenceOf>[]) => new TokenLayout(config, sequences, 4);
  assert.throws(() => layoutOf(sequenceOf(0)), RangeError);
  assert.throws(() => layoutOf(sequenceOf(3, [0])), RangeError);
  assert.throws(() => layoutOf(sequenceOf(3, [3])), RangeError);
  assert.throws(() => layoutOf(sequenceOf(3, [Number.NaN])), RangeError);
});

test("cutting leaves nothing out", () => {
  assert.deepEqual(cut(0, 4), []);
  assert.deepEqual(cut(9, 4), [
    { from: 0, to: 4 },
    { from: 4, to: 8 },
    { from: 8, to: 9 },
  ]);
});

test("tiles do not depend on which were asked for before, few and small or too large to be held", () => {
  for (const [lengths, windowTokens] of [
    [[5, 9, 3, 7], 6],
    [[1200], 400],
  ] as const) {
    const newLayout = () =>
      new TokenLayout(
        config,
        lengths.map((length) => sequenceOf(length)),
        windowTokens,
      );
    const asked = newLayout();
    for (const layer of [0, 1, 0, 1]) {
      for (const window of asked.windows) {
        assert.deepEqual(asked.attention(layer, window), newLayout().attention(layer, window));
      }
    }
  }
});
