// The tables against the formulas of tests/golden/README.md, written out in float64.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { RotaryConfig, RotaryScaling } from "./model-config.ts";
import { tolerances } from "./reference/tolerances.ts";
import { RotaryTable } from "./rotary.ts";

type Formula = (index: number, config: RotaryConfig, sequenceLength: number) => number;

const plain = (index: number, { theta, dimensions }: RotaryConfig) => theta ** ((-2 * index) / dimensions);

type ScalingCase = { readonly scaling: RotaryScaling; readonly frequency: Formula; readonly scale: number };

const llama3 = { factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalMaxPositions: 128 };
const yarn = { factor: 4, betaFast: 32, betaSlow: 1, attentionFactor: 1.138629, originalMaxPositions: 2048 };

const cases: Record<string, ScalingCase> = {
  default: { scaling: { type: "default" }, frequency: plain, scale: 1 },
  linear: {
    scaling: { type: "linear", factor: 4 },
    frequency: (index, config) => plain(index, config) / 4,
    scale: 1,
  },
  dynamic: {
    scaling: { type: "dynamic", factor: 2, originalMaxPositions: 40 },
    frequency(index, config, n) {
      if (n <= 40) return plain(index, config);
      const { theta, dimensions: d } = config;
      return plain(index, { ...config, theta: theta * ((2 * n) / 40 - 1) ** (d / (d - 2)) });
    },
    scale: 1,
  },
  llama3: {
    scaling: { type: "llama3", ...llama3 },
    frequency(index, config) {
      const f = plain(index, config);
      const wavelength = (2 * Math.PI) / f;
      if (wavelength < 128 / 4) return f;
      if (wavelength > 128 / 1) return f / 8;
      const s = (128 / wavelength - 1) / (4 - 1);
      return ((1 - s) * f) / 8 + s * f;
    },
    scale: 1,
  },
  yarn: {
    scaling: { type: "yarn", ...yarn, truncate: true },
    frequency: (index, config) => yarnFrequency(index, config, Math.floor, Math.ceil),
    scale: 1.138629,
  },
  "yarn, not truncated": {
    scaling: { type: "yarn", ...yarn, truncate: false },
    frequency: (index, config) => {
      const same = (x: number) => x;
      return yarnFrequency(index, config, same, same);
    },
    scale: 1.138629,
  },
};

type Round = (x: number) => number;

function yarnFrequency(index: number, config: RotaryConfig, floor: Round, ceil: Round): number {
  const c = (r: number) =>
    (config.dimensions * Math.log(2048 / (2 * Math.PI * r))) / (2 * Math.log(config.theta));
  const low = Math.max(floor(c(32)), 0);
  const high = Math.min(ceil(c(1)), config.dimensions - 1);
  const ramp = Math.min(1, Math.max(0, (index - low) / (high - low)));
  const f = plain(index, config);
  return f * (1 - ramp) + (f / 4) * ramp;
}

test("every scaling type has a case", () => {
  const types: Record<RotaryScaling["type"], true> = {
    default: true,
    linear: true,
    dynamic: true,
    llama3: true,
    yarn: true,
  };
  const tested = new Set(Object.values(cases).map(({ scaling }) => scaling.type));
  assert.deepEqual([...tested].sort(), Object.keys(types).sort());
});

for (const [name, { scaling, frequency, scale }] of Object.entries(cases)) {
  test(name, () => {
    for (const dimensions of [12, 32, 128]) {
      const config: RotaryConfig = { theta: 10_000, dimensions, scaling };
      const table = new RotaryTable(config);
      assert.equal(table.halfDimensions, dimensions / 2);
      const lengths = [1, 40, 41, 300]; // the stretch of `dynamic` comes and goes
      for (const sequenceLength of [...lengths, ...lengths.toReversed()]) {
        checkRows(table, config, { frequency, scale, sequenceLength });
      }
    }
  });
}

/** Rows 1 to 3 of 4, positions 17 to 19, the others untouched. */
function checkRows(
  table: RotaryTable,
  config: RotaryConfig,
  wanted: { frequency: Formula; scale: number; sequenceLength: number },
): void {
  const half = config.dimensions / 2;
  const cos = new Float32Array(4 * half).fill(9);
  const sin = new Float32Array(4 * half).fill(9);
  table.fill({ cos, sin, row: 1 }, 17, 3, wanted.sequenceLength);
  assert.ok(cos.subarray(0, half).every((value) => value === 9));
  for (let row = 1; row < 4; row++) {
    for (let index = 0; index < half; index++) {
      const angle = (16 + row) * wanted.frequency(index, config, wanted.sequenceLength);
      const tolerance = tolerances.rotaryAngle * (1 + angle);
      const at = row * half + index;
      assert.ok(
        Math.abs(cos[at]! - wanted.scale * Math.cos(angle)) <= tolerance,
        `cos of row ${row}, ${index}`,
      );
      assert.ok(
        Math.abs(sin[at]! - wanted.scale * Math.sin(angle)) <= tolerance,
        `sin of row ${row}, ${index}`,
      );
    }
  }
}
