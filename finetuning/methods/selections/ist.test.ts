// Importance against a base that is made up: one layer's modules are all that matters.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { MeasuredPass } from "../../example-pass.ts";
import { ist } from "./ist.ts";

const layers = [0, 1, 2, 3, 4, 5];
const module = (layer: number) =>
  ({
    layer,
    projection: "q",
    rank: 1,
    scale: 1,
    a: new Float32Array(1),
    b: new Float32Array(1),
  }) as const;

/** The loss is small as long as layer 4 answers at its full strength. */
const pass: MeasuredPass = {
  *measure(modules) {
    const strong = modules.some((one) => one.layer === 4 && "scale" in one && one.scale === 1);
    return { loss: 10 * (strong ? 0.1 : 2), weight: 10, hits: null, examples: 1, tokens: 10, metrics: {} };
  },
};

function choices(seed: number, steps: number): number[] {
  const selection = ist({ layers: () => layers, count: 1, period: 1, seed });
  return Array.from({ length: steps }, (_, step) => {
    const { value } = selection.choose({ step, passes: [pass], modules: layers.map(module) }).next();
    assert.ok(value !== undefined && "layers" in value);
    value.keep();
    return value.layers[0]!;
  });
}

test("ist: a layer whose silence hurts is trained most", () => {
  const late = [1, 2, 3].flatMap((seed) => choices(seed, 120).slice(40));
  const count = (layer: number) => late.filter((chosen) => chosen === layer).length;
  for (const layer of layers.filter((other) => other !== 4)) assert.ok(count(4) > 1.5 * count(layer));
});

test("ist: what is not kept has not happened", () => {
  const selection = ist({ layers: () => layers, count: 1, period: 1, seed: 1 });
  const before = structuredClone(selection.state());
  const choice = selection.choose({ step: 1, passes: [pass], modules: layers.map(module) }).next().value;
  assert.deepEqual(selection.state(), before);
  assert.ok(choice !== undefined && "keep" in choice);
  choice.keep();
  assert.notDeepEqual(selection.state(), before);
});
