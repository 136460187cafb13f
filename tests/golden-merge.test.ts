// Merges of two adapters against PEFT's add_weighted_adapter, as dense changes of the weights. See
// golden-merge/README.md for the methods that PEFT defines otherwise.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { denseChange, isAt, isMatrixModule, matrixPlaces } from "../adapters-store/combine/matrix-place.ts";
import { type MergeOptions, mergeAdapters } from "../adapters-store/combine/merge.ts";
import { decodeAdapter } from "../adapters-store/decode-adapter.ts";
import { claimFiles } from "../adapters-store/formats/index.ts";
import { openSafetensors } from "../kernels/checkpoint/safetensors.ts";
import { adapterTargets } from "../kernels/model-family.ts";
import { openReference } from "./golden/reference-model.ts";

/** Relative to the norm of a matrix's change; PEFT computed in float32. */
const tolerance = 2e-6;

const directory = join(import.meta.dirname, "golden-merge");
const checkpointDirectory = join(import.meta.dirname, "golden-peft-kinds", "bases", "llama");
using reference = openReference(checkpointDirectory);
const targets = { ...adapterTargets(reference.config), checkpointDirectory };

const different = [0.7, -0.4];
const cases: readonly [golden: string, weights: readonly number[], options: MergeOptions][] = [
  ["cat", different, { method: "concatenation" }],
  ["cat", different, { method: "linear" }],
  ["svd", different, { method: "svd", parameters: { rank: 3 } }],
  ["ties", [0.6, 0.6], { method: "ties", parameters: { rank: 4, density: 0.4 } }],
];

for (const [golden, weights, options] of cases) {
  test(`${options.method} changes the weights as PEFT's ${golden} does`, () => {
    const parts = ["first", "second"].map((name, index) => {
      const weight = weights[index]!;
      return { version: name, weight, layerWeights: [weight, weight], adapter: decode(name) };
    });
    const { adapter } = mergeAdapters({ parts, targets, options });
    using file = openSafetensors(join(directory, "merged.safetensors"));
    let compared = 0;
    for (const place of matrixPlaces(targets)) {
      const name = `${golden}.${nameOf(place)}`;
      const modules = adapter.modules.filter(isMatrixModule).filter((module) => isAt(module, place));
      assert.equal(modules.length > 0, file.tensors.has(name), name);
      if (modules.length === 0) continue;
      const expected = file.readFloat32(name);
      const found = denseChange(modules, place).values;
      const error = Math.hypot(...found.map((value, i) => value - expected[i]!)) / Math.hypot(...expected);
      assert.ok(error < tolerance, `${name}: ${error}`);
      compared++;
    }
    assert.equal(compared, 7);
  });
}

function decode(name: string) {
  const adapterDirectory = join(directory, "adapters", name);
  const files = claimFiles(readdirSync(adapterDirectory));
  return decodeAdapter({ directory: adapterDirectory, files, targets, baseFingerprint: "base" }).adapter;
}

/** PEFT's name of a module. */
function nameOf(place: ReturnType<typeof matrixPlaces>[number]): string {
  if (place.kind === "head") return "lm_head";
  if (place.kind === "embedding") return "embed_tokens";
  const block = ["q", "k", "v", "o"].includes(place.projection) ? "self_attn" : "mlp";
  return `layers.${place.layer}.${block}.${place.projection}_proj`;
}
