// The kinds that no PEFT golden covers, in the slow forward pass: each against the same change written as another kind.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, test } from "node:test";
import { openReference } from "../../tests/golden/reference-model.ts";
import type { AdapterModule } from "../adapter.ts";
import { adapterTargets } from "../model-family.ts";
import { randomAt } from "../sampling/random.ts";
import { referenceForward } from "./forward.ts";

const base = join(import.meta.dirname, "../../tests/golden-peft-kinds/bases/qwen2");
const tokenIds = [7, 30, 12, 5];

let draws = 0;
const random = (length: number) => Float32Array.from({ length }, () => randomAt(3, draws++) - 0.5);

const reference = openReference(base);
after(() => reference[Symbol.dispose]());
const { shapes } = adapterTargets(reference.config);
const target = { layer: 1, projection: "q" } as const;
const { in: inWidth, out } = shapes.q;

test("channels are ranks that read one input each", () => {
  const channels = Uint32Array.of(1, 4, 15);
  const b = random(channels.length * out);
  const a = new Float32Array(channels.length * inWidth);
  for (const [rank, channel] of channels.entries()) a[rank * inWidth + channel] = 1;
  const rank = channels.length;
  assertSame([{ kind: "channels", ...target, channels, b }], [{ kind: "low-rank", ...target, rank, a, b }]);
});

test("a sparse value is a rank that reads one input and writes one output", () => {
  const indices = Uint32Array.of(3, inWidth + 2, 5 * inWidth, out * inWidth - 1);
  const values = random(indices.length);
  const rank = indices.length;
  const a = new Float32Array(rank * inWidth);
  const b = new Float32Array(rank * out);
  for (const [at, index] of indices.entries()) {
    a[at * inWidth + (index % inWidth)] = 1;
    b[at * out + Math.floor(index / inWidth)] = values[at]!;
  }
  assertSame([{ kind: "sparse", ...target, indices, values }], [{ kind: "low-rank", ...target, rank, a, b }]);
});

test("scale and shift come after what the other kinds add, and after the base's bias", () => {
  // Channels that cancel the projection's weights leave its bias, which the base has on q.
  const { weights, layers } = reference;
  const { weight, bias } = layers[1]!.q;
  const matrix = weights.readFloat32(weight.name); // [out, in]
  const channels = Uint32Array.from({ length: inWidth }, (_, i) => i);
  const b = Float32Array.from(
    { length: inWidth * out },
    (_, i) => -matrix[(i % out) * inWidth + Math.floor(i / out)]!,
  );
  const cancelled = { kind: "channels", ...target, channels, b } as const;
  const scale = random(out);
  const shift = random(out);
  const stored = weights.readFloat32(bias!.name);
  // 0 scale + (bias scale + shift) is a shift alone under a scale of zero.
  const constant = shift.map((value, i) => Math.fround(stored[i]! * scale[i]!) + value);
  assertSame(
    [cancelled, { kind: "scale", ...target, scale, shift }],
    [{ kind: "scale", ...target, scale: new Float32Array(out), shift: constant }],
    1e-6,
  );
});

function assertSame(one: readonly AdapterModule[], other: readonly AdapterModule[], tolerance = 1e-12): void {
  const run = (modules: readonly AdapterModule[] | null) =>
    referenceForward(reference, tokenIds, modules === null ? null : { modules }).flat();
  const [found, expected, plain] = [run(one), run(other), run(null)];
  const distance = (left: readonly number[], right: readonly number[]) =>
    Math.max(...left.map((value, i) => Math.abs(value - right[i]!)));
  assert.ok(distance(found, expected) <= tolerance, `they differ by ${distance(found, expected)}`);
  assert.ok(distance(found, plain) > 1e-3, "the adapter does nothing");
}
