// What holds for every method: the report against dense matrices, depth scaling, lineage, and what is refused.

import assert from "node:assert/strict";
import { test } from "node:test";
import { modulesOf } from "../../kernels/adapter.ts";
import {
  adapters,
  addAll,
  assertChanges,
  change,
  distance,
  fullRank,
  merge,
  mixed,
  ofMatrices,
  part,
  places,
  weighted,
} from "../../tests/merge-fixture.ts";
import { fixtureTargets as targets } from "../peft-fixture.ts";
import { type DepthScaling, depthScale } from "./depth-scaling.ts";
import type { MatrixPlace } from "./matrix-place.ts";
import { type MergeOptions, type MergePart, mergeAdapters } from "./merge.ts";
import { mergeMethodNames, mergeMethods } from "./methods/index.ts";

test("the errors of a dense method: to its own result and to the sum", () => {
  const parts = [part(mixed, 1), part(ofMatrices[1]!, 0.5)];
  const at = (rank: number) => merge(parts, { method: "ties", parameters: { rank, density: 0.5 } });
  const [exact, small] = [at(fullRank), at(2)];
  assert.ok(exact.report.errors.toTarget.total < 1e-6);
  const relative = (wanted: (place: MatrixPlace) => Float64Array) => {
    const found = places.map((place) => distance(change(small.adapter, place), wanted(place)));
    return Math.hypot(...found) / Math.hypot(...places.flatMap((place) => [...wanted(place)]));
  };
  const { toTarget, toSum } = small.report.errors;
  assert.ok(Math.abs(toTarget.total - relative((place) => change(exact.adapter, place))) < 1e-5);
  assert.ok(Math.abs(toSum.total - relative((place) => addAll(weighted(parts, place)))) < 1e-5);
  assert.ok(toTarget.total > 0.01 && toSum.total > toTarget.total);
});

test("lines scales every method's result by depth", () => {
  const lines: DepthScaling = { first: 0.25, last: 1.5 };
  const scales = places.map((place) => depthScale(lines, place, targets.layers));
  assert.deepEqual([...new Set(scales)], [0.25, 0.875, 1.5]);
  const samples = { rank: fullRank, density: 0.5, outliers: 0.1, seed: 3 };
  for (const method of mergeMethodNames) {
    const parameters = Object.fromEntries(
      mergeMethods[method].parameters.map((name) => [name, samples[name]]),
    );
    const parts = [part(mixed, 1), part(ofMatrices[1]!, 0.5)];
    const plain = merge(parts, { method, parameters }).adapter;
    const { adapter, report } = merge(parts, { method, parameters, lines });
    assertChanges(adapter, (place) => {
      const scale = depthScale(lines, place, targets.layers);
      return change(plain, place).map((value) => value * scale);
    });
    const { linesFirst, linesLast, method: named } = report.lineage.parameters;
    assert.deepEqual([named, linesFirst, linesLast], [method, 0.25, 1.5]);
  }
});

test("averaging factors is compared to averaging products", () => {
  const adapter = ofMatrices[0]!;
  const low = modulesOf(adapter, "low-rank");
  const turned = {
    modules: low.map((module) => ({ ...module, a: module.a.map((x) => -x), b: module.b.map((x) => -x) })),
  };
  const of = (...parts: MergePart[]) => merge(parts, { method: "linear" }).report.errors.factorAveraging;
  assert.ok(of(part(adapter, 0.5), part(adapter, 0.5))!.total < 1e-6);
  assert.ok(Math.abs(of(part(adapter, 0.5), part(turned, 0.5))!.total - 1) < 1e-6); // the means of the factors are zero
  assert.equal(of(part(adapter, 1)), null);
  assert.equal(of(part(adapter, 1.5), part(turned, -0.5)), null);
});

test("the lineage tells how to make it again", () => {
  const parts = [part(mixed, 1, [0, 1, 2]), part(ofMatrices[1]!, 0.5)];
  const options = { method: "dare_linear", parameters: { rank: 4, density: 0.5 } } as const;
  const { adapter, report } = merge(parts, options);
  const { operation, parents, parameters } = report.lineage;
  assert.deepEqual([operation, parents], ["merge", parts.map(({ version }) => version)]);
  const { method, weights, ...numbers } = parameters;
  assert.deepEqual([method, numbers], ["dare_linear", { rank: 4, density: 0.5, seed: 0 }]);
  const again = (JSON.parse(weights as string) as { weight: number; layerWeights: number[] }[]).map(
    ({ weight, layerWeights }, index) => part(parts[index]!.adapter, weight, layerWeights),
  );
  assert.deepEqual(merge(again, { method, parameters: numbers } as MergeOptions).adapter, adapter);
});

test("scales have an exact sum by every method; what has none is refused", () => {
  const scales = adapters[11]!;
  const { adapter } = merge([part(scales, 0.5)], { method: "ties", parameters: { rank: 2, density: 0.5 } });
  const found = modulesOf(adapter, "scale");
  assert.equal(found.length, scales.modules.length);
  for (const [index, own] of modulesOf(scales, "scale").entries()) {
    for (const [at, scale] of own.scale.entries()) {
      assert.ok(Math.abs(found[index]!.scale[at]! - (1 + scale) / 2) < 1e-6);
    }
  }
  for (const index of [15, 18, 19]) {
    assert.throws(() => merge([part(adapters[index]!, 1)], { method: "linear" }), {
      code: "adapters_not_composable",
    });
  }
});

test("parameters that mean nothing are refused by name", () => {
  const cases: [options: unknown, message: RegExp][] = [
    [{ method: "mean" }, /mean is no method/],
    [{ method: "toString" }, /no method/],
    [{ method: "linear", parameters: { rank: 3 } }, /linear takes no parameters; remove rank/],
    [{ method: "svd" }, /svd needs rank/],
    [{ method: "svd", parameters: { rank: 0 } }, /rank is 0/],
    [{ method: "svd", parameters: { rank: 1.5 } }, /rank is 1.5/],
    [{ method: "ties", parameters: { rank: 2, density: 0 } }, /density is 0/],
    [{ method: "ties", parameters: { rank: 2, density: Number.NaN } }, /density is NaN/],
    [{ method: "dare_ties", parameters: { rank: 2, density: 0.5, seed: -1 } }, /seed is -1/],
    [{ method: "breadcrumbs", parameters: { rank: 2, density: 0.9, outliers: 0.2 } }, /density and outliers/],
    [{ method: "linear", lines: { first: -1, last: 1 } }, /lines/],
    [{ method: "linear", lines: { first: 0, last: Number.POSITIVE_INFINITY } }, /lines/],
  ];
  for (const [options, message] of cases) {
    assert.throws(() => merge([part(mixed, 1)], options as MergeOptions), {
      code: "merge_parameter_invalid",
      message,
    });
  }
});

test("a merge that changes nothing, is not finite, or is too large to be made dense is refused", () => {
  const linear = { method: "linear" } as const;
  assert.throws(() => merge([part(mixed, 0)], linear), { code: "merge_changes_nothing" });
  const opposite = [part(ofMatrices[0]!, 1), part(ofMatrices[0]!, -1)];
  assert.throws(() => merge(opposite, linear), { code: "merge_changes_nothing" });
  for (const weight of [3e38, 1e8]) {
    assert.throws(() => merge([part(mixed, weight)], linear), { code: "adapter_values_too_large" });
  }
  const large = { ...targets, vocabSize: 2 ** 26 };
  const head = { kind: "head", rank: 1, a: new Float32Array(8).fill(1), b: new Float32Array(4) } as const;
  assert.throws(
    () =>
      mergeAdapters({
        parts: [part({ modules: [head] }, 1)],
        targets: large,
        options: { method: "ties", parameters: { rank: 1, density: 1 } },
      }),
    { code: "merge_too_large" },
  );
});
