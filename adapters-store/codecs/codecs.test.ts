import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { AdapterError } from "../../kernels/errors.ts";
import { randomAt } from "../../kernels/sampling/random.ts";
import { normalValues } from "../container/container-fixture.ts";
import { type Encoding, encodeFloats } from "./encode-floats.ts";
import { encodeGaps, gaps } from "./gaps.ts";
import { type FloatCodecName, floatCodecs, indexCodecs } from "./index.ts";
import { encodeLedger, ledger } from "./ledger.ts";
import { encodeMaskedShape } from "./masked-ledger.ts";
import { decodeRice, encodeRice } from "./rice.ts";
import { bytesOf } from "./tensor-codec.ts";

const oneRow = { rows: 1, ledger: { bytes: new Uint8Array(0), first: 0 } };
const decode = (encoding: Encoding, bytes: Uint8Array, count: number) =>
  floatCodecs[encoding.codec].decode(bytes, count, oneRow);
const withLedger = (bytes: Uint8Array, first: number) => ({ rows: 1, ledger: { bytes, first } });

/** From 1e-6 to 1e6 in size, zeros among them, any length. */
const tensors = fc
  .tuple(fc.array(fc.integer({ min: -1000, max: 1000 }), { minLength: 1, maxLength: 200 }), fc.nat(12))
  .map(([values, exponent]) => Float32Array.from(values, (value) => (value / 1000) * 10 ** (exponent - 6)));

/** The largest error that a value may have, given its tensor and its group. */
const bounds: readonly [Encoding, (value: number, group: number) => number][] = [
  [{ codec: "f32" }, () => 0],
  [{ codec: "bf16" }, (value) => Math.abs(value) * 2 ** -8],
  [{ codec: "int8", groupSize: 16 }, (_, group) => (group / 127) * 0.51 + group * 2 ** -10],
  [{ codec: "int4", groupSize: 16 }, (_, group) => group * 0.32],
  [{ codec: "sparse", density: 1 }, (value) => Math.abs(value) * 2 ** -10],
];

for (const [encoding, boundOf] of bounds) {
  test(`${encoding.codec}: every value comes back within its bound`, () => {
    fc.assert(
      fc.property(tensors, (values) => {
        const decoded = decode(encoding, encodeFloats(values, encoding, 1), values.length);
        const largest = values.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
        for (const [i, value] of values.entries()) {
          const group = values.subarray(i - (i % 16), i - (i % 16) + 16);
          const groupMax = group.reduce((max, each) => Math.max(max, Math.abs(each)), 0);
          const floor = largest * 1e-6; // f16 scales end there
          const error = Math.abs(decoded[i]! - value);
          assert.ok(error <= boundOf(value, groupMax) + (encoding.codec === "f32" ? 0 : floor), `${i}`);
        }
      }),
    );
  });
}

test("f16 is exact where a half is, and refuses what it cannot hold", () => {
  const values = Float32Array.of(0, -0.5, 65_504, 2 ** -24, 1 / 3);
  const decoded = decode({ codec: "f16" }, encodeFloats(values, { codec: "f16" }, 1), 5);
  assert.deepEqual([...decoded.subarray(0, 4)], [...values.subarray(0, 4)]);
  assert.ok(Math.abs(decoded[4]! - 1 / 3) < 2 ** -13);
  assert.throws(() => encodeFloats(Float32Array.of(1, 65_520), { codec: "f16" }, 1), {
    code: "codec_out_of_range",
  });
});

for (const positions of ["bitmaps", "rice", "urn", undefined] as const) {
  test(`ternary in ${positions ?? "the smallest form"}: signs of the largest, one magnitude`, () => {
    const densities = fc.double({ min: 0.01, max: 1, noNaN: true });
    fc.assert(
      fc.property(tensors, densities, fc.integer({ min: 1, max: 40 }), (drawn, density, columns) => {
        const rows = Math.max(1, Math.floor(drawn.length / columns));
        const values = drawn.slice(0, rows * Math.min(columns, drawn.length));
        const options = positions === undefined ? {} : { positions };
        const bytes = encodeFloats(values, { codec: "ternary", density, ...options }, rows);
        const decoded = floatCodecs.ternary.decode(bytes, values.length, { ...oneRow, rows });
        // The oracle sorts; the codec counts bits.
        const kept = [...values.keys()]
          .sort((i, j) => Math.abs(values[j]!) - Math.abs(values[i]!) || i - j)
          .slice(0, Math.max(1, Math.round(density * values.length)))
          .filter((i) => values[i] !== 0);
        const mean = kept.reduce((sum, i) => sum + Math.abs(values[i]!), 0) / kept.length;
        const magnitude = Math.abs(decoded[kept[0] ?? 0]!);
        assert.ok(kept.length === 0 || Math.abs(magnitude / mean - 1) <= 2 ** -8, `${magnitude} for ${mean}`);
        const expected = new Float32Array(values.length);
        for (const i of kept) expected[i] = Math.sign(values[i]!) * magnitude;
        assert.deepEqual(decoded, expected);
      }),
    );
  });
}

test("ComPEFT's magnitude is alpha times the standard deviation of the whole tensor", () => {
  const values = normalValues(3, 10_000, 0.02);
  const bytes = encodeFloats(values, { codec: "ternary", density: 0.1, alpha: 2 }, 1);
  const decoded = decode({ codec: "ternary", density: 0.1 }, bytes, values.length);
  const magnitude = decoded.reduce((max, value) => Math.max(max, value), 0);
  assert.ok(Math.abs(magnitude / 0.04 - 1) < 0.03, `${magnitude}`);
  assert.equal(decoded.filter((value) => value !== 0).length, 1000);
});

test("ternary sizes: two bits by bitmaps at any density, within 2% of the entropy by gaps, 0.7% by urn codes", () => {
  const values = normalValues(4, 400_000);
  for (const density of [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.7, 1]) {
    const bits = (positions: "bitmaps" | "rice" | "urn") =>
      (encodeFloats(values, { codec: "ternary", density, positions }, 16).length * 8) / values.length;
    assert.ok(Math.abs(bits("bitmaps") - 2) < 0.001);
    const log = (p: number) => (p === 0 ? 0 : -p * Math.log2(p));
    const entropy = log(density) + log(1 - density) + density;
    const bound = density > 0.5 ? 2.001 : entropy * 1.02 + 0.001;
    assert.ok(bits("rice") <= bound, `${density}: ${bits("rice")} bits, entropy ${entropy}`);
    assert.ok(bits("urn") <= entropy * 1.007, `${density}: ${bits("urn")} bits, entropy ${entropy}`);
  }
});

test("urn codes take less than the entropy where entries crowd in columns", () => {
  const [rows, columns] = [16, 4096];
  const values = normalValues(6, rows * columns);
  for (const at of values.keys()) values[at]! *= Math.exp(1.2 * Math.sin(at % columns));
  const bytes = encodeFloats(values, { codec: "ternary", density: 0.05, positions: "urn" }, rows);
  assert.ok((bytes.length * 8) / values.length < 0.336 * 0.95, `${(bytes.length * 8) / values.length}`);
});

test("a ternary magnitude beyond a float is refused", () => {
  const encoding = { codec: "ternary", density: 0.5, alpha: 1e300 } as const;
  assert.throws(() => encodeFloats(normalValues(7, 100), encoding, 1), { code: "codec_out_of_range" });
});

test("Rice codes: any numbers, in any order", () => {
  const numbers = fc.array(fc.oneof(fc.nat(20), fc.nat(100_000)), { maxLength: 100 });
  fc.assert(
    fc.property(numbers, (list) => {
      const values = Uint32Array.from(list);
      const low = Math.max(1, Math.ceil(Math.log2(1 + Math.max(0, ...list))) - 8); // long unary parts too
      const bits = list.reduce((sum, value) => sum + (value >>> low) + 1 + low, 0);
      assert.deepEqual(decodeRice(encodeRice(values, { low, bits }), { count: list.length, low }), values);
    }),
  );
});

test("gaps and u32: ascending indices come back, up to the largest", () => {
  const indices = fc
    .uniqueArray(fc.nat(2 ** 31 - 1), { minLength: 1, maxLength: 50 })
    .map((list) => Uint32Array.from(list.toSorted((a, b) => a - b)));
  fc.assert(
    fc.property(indices, (values) => {
      assert.deepEqual(gaps.decode(encodeGaps(values), values.length, oneRow), values);
      const bytes = new Uint8Array(values.buffer.slice(0));
      assert.deepEqual(indexCodecs.u32.decode(bytes, values.length, oneRow), values);
    }),
  );
});

test("a ledger is the sum of signed scalars, wherever a tensor begins", () => {
  const steps = [
    { seed: 7, scalar: 0.5 },
    { seed: 4_000_000_000, scalar: -0.125 },
    { seed: 7, scalar: 2 },
  ];
  const shared = encodeLedger(99, steps);
  const deviation = new Uint8Array(Float32Array.of(0.25).buffer);
  const whole = ledger.decode(deviation, 10_000, withLedger(shared, 0));
  // randomAt's second 32-bit word, by its own definition: 26 bits of it are in the lower half of the result.
  const sign = (seed: number, index: number) => {
    const low26 = (randomAt(seed, Math.floor(index / 32)) * 2 ** 53) % 2 ** 26;
    const bit = (index % 32) - 6;
    return bit < 0 ? null : (Math.floor(low26 / 2 ** bit) % 2) * 2 - 1;
  };
  const all = [{ seed: 99, scalar: 0.25 }, ...steps];
  for (const [i, value] of whole.entries()) {
    const terms = all.map(({ seed, scalar }) => (sign(seed, i) ?? Number.NaN) * scalar);
    if (terms.some(Number.isNaN)) continue;
    assert.equal(value, Math.fround(terms.reduce((sum, term) => sum + term, 0)), `${i}`);
  }
  for (const first of [1, 31, 32, 4095, 5000]) {
    const part = ledger.decode(deviation, 4200, withLedger(shared, first));
    assert.deepEqual(part, whole.slice(first, first + 4200));
  }
  const mean = whole.reduce((sum, value) => sum + value, 0) / whole.length;
  assert.ok(Math.abs(mean) < 0.1, `${mean}`);
});

test("a masked ledger moves the smallest values, and all of them where the mask names all", () => {
  const steps = Array.from({ length: 7 }, (_, seed) => ({ seed, scalar: 0.01 * (seed - 2) }));
  const count = 1000;
  const decoded = (share: number, maskSteps: number) =>
    floatCodecs["masked-ledger"].decode(
      encodeMaskedShape({ bound: 0.5, share, maskSteps }),
      count,
      withLedger(encodeLedger(5, steps), 77),
    );
  const initial = floatCodecs["masked-ledger"].decode(
    encodeMaskedShape({ bound: 0.5, share: 1, maskSteps: 1 }),
    count,
    withLedger(encodeLedger(5, []), 77),
  );
  const sizes = [...initial].map(Math.abs).sort((one, other) => one - other);
  assert.ok(sizes[0]! < 0.01 && sizes.at(-1)! > 0.49 && sizes.at(-1)! <= 0.5);
  assert.ok(Math.abs(initial.reduce((sum, value) => sum + value, 0) / count) < 0.05);
  for (const [i, value] of decoded(0.25, 100).entries()) {
    assert.equal(value !== initial[i], Math.abs(initial[i]!) <= sizes[249]!, `${i}`);
  }
  const signs = ledger.decode(bytesOf(Float32Array.of(0)), count, withLedger(encodeLedger(5, steps), 77));
  for (const [i, value] of decoded(1, 3).entries()) {
    assert.ok(Math.abs(value - initial[i]! - signs[i]!) < 1e-7);
  }
});

test("damaged tensors are refused with a code or decoded, never more", () => {
  const encodings: readonly Encoding[] = [
    ...bounds.map(([encoding]) => encoding),
    { codec: "f16" },
    { codec: "ternary", density: 0.1, positions: "rice" },
    { codec: "ternary", density: 0.5, positions: "bitmaps" },
    { codec: "ternary", density: 0.1, positions: "urn" },
    { codec: "ternary", density: 0.9, positions: "urn" },
    { codec: "sparse", density: 0.1 },
  ];
  const values = normalValues(5, 300);
  for (const encoding of encodings) {
    const intact = encodeFloats(values, encoding, 1);
    for (let seed = 0; seed < 300; seed++) {
      const at = Math.floor(randomAt(seed, 0) * intact.length);
      const bytes = seed % 3 === 0 ? intact.slice(0, at) : Uint8Array.from(intact);
      if (seed % 3 === 1) bytes[at]! ^= 1 << Math.floor(randomAt(seed, 1) * 8);
      if (seed % 3 === 2) bytes.fill(255, at, at + 4);
      try {
        assert.equal(decode(encoding, bytes, values.length).length, values.length);
      } catch (error) {
        if (!(error instanceof AdapterError)) throw error;
        assert.equal(error.code, "container_tensor_malformed");
      }
    }
  }
});

test("every codec of floats is exercised here", () => {
  const tested: FloatCodecName[] = [
    "f32",
    "f16",
    "bf16",
    "int8",
    "int4",
    "ternary",
    "sparse",
    "ledger",
    "masked-ledger",
  ];
  assert.deepEqual(Object.keys(floatCodecs).sort(), tested.sort());
});
