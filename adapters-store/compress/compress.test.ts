import assert from "node:assert/strict";
import { test } from "node:test";
import { type DecodedAdapter, modulesOf } from "../../kernels/adapter.ts";
import { memorySource } from "../container/byte-source.ts";
import { everyKind, fixtureBase, lowRank, smolTargets } from "../container/container-fixture.ts";
import { readContainer } from "../container/read-container.ts";
import {
  type CompressionOptions,
  type CompressionSource,
  compress,
  compressionCandidates,
} from "./compress.ts";

/** A part of SmolLM2-135M's layers. */
const targets = { ...smolTargets, layers: 8 };
const base = { targets, fingerprint: "f".repeat(64) };
const identity = { base, parents: ["v1"], metadata: {} };
const source: CompressionSource = { ...identity, adapter: lowRank(targets, 16, { layers: 1 }) };

test("ComPEFT: 8x at any density, at least 45x at 5%, all overhead included", () => {
  const large = { ...identity, adapter: lowRank(targets, 16) }; // 1.3 million values
  const ratio = (density: number) => compress(large, { method: "compeft", density }).ratio;
  for (const density of [1, 0.9, 2 / 3, 0.5])
    assert.ok(ratio(density) >= 10, `${density}: ${ratio(density)}`);
  assert.ok(ratio(1) >= 15.5, `${ratio(1)}`);
  assert.ok(ratio(0.05) >= 46.5, `${ratio(0.05)}`);
});

test("the reported ratio and errors are those of the file", () => {
  for (const options of [
    { method: "f16" },
    { method: "int8" },
    { method: "compeft", density: 0.2, alpha: 1.5 },
  ] as const) {
    const small = lowRank(targets, 2, { layers: 2 });
    const packed = compress({ ...source, adapter: small }, options);
    const container = readContainer(memorySource(packed.container), base);
    assert.equal(packed.ratio, packed.sixteenBitBytes / packed.container.length);
    const reported = packed.weightError;
    const measured = denseError(small, container.adapter);
    assert.ok(Math.abs(reported.total - measured) <= 1e-5 * measured, `${reported.total} ${measured}`);
    assert.deepEqual(reported.byKind, { "low-rank": reported.total });
    assert.deepEqual(container.manifest.lineage, {
      operation: "compress",
      parents: ["v1"],
      parameters: options,
    });
  }
});

test("more bits, less error", () => {
  const methods: readonly CompressionOptions[] = [
    { method: "f32" },
    { method: "f16" },
    { method: "bf16" },
    { method: "int8" },
    { method: "int4" },
    { method: "compeft", density: 0.5 },
    { method: "compeft", density: 0.05 },
  ];
  const errors = methods.map((options) => compress(source, options).weightError.total);
  assert.equal(errors[0], 0);
  assert.deepEqual(
    errors,
    errors.toSorted((a, b) => a - b),
  );
  assert.ok(errors[3]! < 0.01 && errors[4]! < 0.15, `${errors}`);
});

test("a target ratio is reached by the most precise method that does, and closely", () => {
  const codecAt = (targetRatio: number) => {
    const packed = compress(source, { targetRatio });
    assert.ok(packed.ratio >= targetRatio, `${packed.ratio} < ${targetRatio}`);
    if (targetRatio > 8) assert.ok(packed.ratio < targetRatio * 1.02, `${packed.ratio} for ${targetRatio}`);
    return packed.encodings.mlp.codec;
  };
  assert.deepEqual([1, 1.9, 3.5, 7, 30].map(codecAt), ["int8", "int8", "int4", "ternary", "ternary"]);
  assert.throws(() => compress(source, { targetRatio: 5000 }), { code: "compression_target_unreachable" });
});

test("skillpack spends bits where they save the most error", () => {
  const packed = compress(source, { method: "skillpack", targetRatio: 2.5 });
  assert.ok(packed.ratio >= 2.5);
  // A single method of that size would be int4 for all.
  const { attention, mlp } = packed.encodings;
  assert.deepEqual(new Set([attention.codec, mlp.codec]), new Set(["int8", "int4"]));
  assert.ok(packed.weightError.total < compress(source, { method: "int4" }).weightError.total);
});

test("values that are no differences keep 16 bits, and every kind can be packed", () => {
  const all = { adapter: everyKind(), base: fixtureBase, parents: [], metadata: {} };
  const packed = compress(all, { method: "compeft", density: 0.3 });
  const { weightError } = packed;
  assert.deepEqual(
    new Set(Object.keys(weightError.byKind)),
    new Set(all.adapter.modules.map(({ kind }) => kind)),
  );
  for (const kind of ["scale", "soft-prompt", "prefix"] as const) assert.ok(weightError.byKind[kind]! < 1e-3);
  assert.ok(weightError.byKind.head! > 0.01);
  const decoded = readContainer(memorySource(packed.container), fixtureBase).adapter;
  assert.deepEqual(
    modulesOf(decoded, "sparse").map(({ indices }) => indices),
    modulesOf(all.adapter, "sparse").map(({ indices }) => indices),
  );
});

test("candidates go from large and precise to small", () => {
  const candidates = [...compressionCandidates(source)].map(({ packed }) => packed);
  const sizes = candidates.map(({ container }) => container.length);
  assert.deepEqual(
    sizes,
    sizes.toSorted((a, b) => b - a),
  );
  const errors = candidates.map(({ weightError }) => weightError.total);
  assert.deepEqual(
    errors,
    errors.toSorted((a, b) => a - b),
  );
});

test("refuses options that mean nothing", () => {
  for (const options of [
    { method: "compeft", density: 0 },
    { method: "compeft", density: 1.5 },
    { method: "compeft", density: Number.NaN },
    { method: "compeft", density: 0.5, alpha: -1 },
    { method: "int4", groupSize: 7 },
    { targetRatio: 0.5 },
  ] as const) {
    assert.throws(() => compress(source, options), { code: "compression_option_invalid" });
  }
});

/** Frobenius norms of the weights' changes themselves, element by element. */
function denseError(one: DecodedAdapter, other: DecodedAdapter): number {
  const others = modulesOf(other, "low-rank");
  let error = 0;
  let norm = 0;
  for (const [index, module] of modulesOf(one, "low-rank").entries()) {
    const { in: width, out } = targets.shapes[module.projection];
    for (let row = 0; row < out; row++) {
      for (let column = 0; column < width; column++) {
        let value = 0;
        let changed = 0;
        for (let r = 0; r < module.rank; r++) {
          value += module.a[r * width + column]! * module.b[r * out + row]!;
          changed += others[index]!.a[r * width + column]! * others[index]!.b[r * out + row]!;
        }
        error += (value - changed) ** 2;
        norm += value ** 2;
      }
    }
  }
  return Math.sqrt(error / norm);
}
