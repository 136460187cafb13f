import assert from "node:assert/strict";
import { test } from "node:test";
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from "./float16.ts";

const every16Bits = Uint16Array.from({ length: 65_536 }, (_, i) => i);
const converters = [
  { name: "float16", widen: float16ToFloat32, narrow: float32ToFloat16 },
  { name: "bfloat16", widen: bfloat16ToFloat32, narrow: float32ToBfloat16 },
];

for (const { name, widen, narrow } of converters) {
  const widened = new Float32Array(65_536);
  widen(every16Bits, widened);

  test(`every ${name} survives the way to float32 and back`, () => {
    const back = new Uint16Array(65_536);
    narrow(widened, back);
    for (let i = 0; i < 65_536; i++) {
      if (Number.isNaN(widened[i])) continue;
      assert.equal(back[i], i);
    }
  });

  test(`${name} rounds to nearest, ties to even`, () => {
    const infinity = every16Bits.findIndex((i) => widened[i] === Number.POSITIVE_INFINITY);
    for (let i = 0; i + 1 < infinity; i++) {
      const middle = (widened[i]! + widened[i + 1]!) / 2;
      const even = i % 2 === 0 ? i : i + 1;
      const inputs = Float32Array.of(nextBelow(middle), middle, nextAbove(middle), -middle);
      const outputs = new Uint16Array(4);
      narrow(inputs, outputs);
      assert.deepEqual(
        [...outputs],
        [i, even, i + 1, even | 0x8000],
        `between ${widened[i]} and its successor`,
      );
    }
  });

  test(`${name} keeps infinities, NaN and the sign of zero`, () => {
    const outputs = new Uint16Array(4);
    narrow(Float32Array.of(Infinity, -Infinity, NaN, -0), outputs);
    const back = new Float32Array(4);
    widen(outputs, back);
    assert.deepEqual([...back], [Infinity, -Infinity, NaN, -0]);
  });
}

test("known float16 values", () => {
  const values = new Float32Array(5);
  float16ToFloat32(Uint16Array.of(0x3c00, 0xc000, 0x7bff, 0x0001, 0x0400), values);
  assert.deepEqual([...values], [1, -2, 65_504, 2 ** -24, 2 ** -14]);
  const narrowed = new Uint16Array(2);
  float32ToFloat16(Float32Array.of(65_519, 65_520), narrowed);
  assert.deepEqual([...narrowed], [0x7bff, 0x7c00]);
});

function nextAbove(value: number): number {
  const bits = new Uint32Array(Float32Array.of(value).buffer);
  bits[0]!++;
  return new Float32Array(bits.buffer)[0]!;
}

function nextBelow(value: number): number {
  const bits = new Uint32Array(Float32Array.of(value).buffer);
  bits[0]!--;
  return new Float32Array(bits.buffer)[0]!;
}
