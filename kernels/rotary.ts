// Rotary position tables: cos and sin of every position, per rotary configuration, in the half-rotation layout.
// The formulas are those of transformers' rope initialisers; their papers stand at the functions.

import type { RotaryConfig } from "./model-config.ts";

/** cos and sin rows of one rotary configuration; rows are made when first asked for. */
export class RotaryTable {
  readonly #config: RotaryConfig;
  readonly #frequencies: Float32Array; // [dimensions / 2]
  readonly #scale: number;
  readonly #rows = new Map<number, { cos: Float32Array; sin: Float32Array }>();

  constructor(config: RotaryConfig) {
    this.#config = config;
    this.#frequencies = inverseFrequencies(config);
    this.#scale = config.scaling.type === "yarn" ? config.scaling.attentionFactor : 1;
  }

  get halfDimensions(): number {
    return this.#frequencies.length;
  }

  /**
   * Writes the rows of `count` consecutive positions to cos and sin, [.., dimensions / 2], from `row` on.
   * @param sequenceLength tokens of the sequence so far; only `dynamic` scaling depends on it
   */
  fill(
    out: { readonly cos: Float32Array; readonly sin: Float32Array; readonly row: number },
    position: number,
    count: number,
    sequenceLength: number,
  ): void {
    const half = this.halfDimensions;
    const stretched = this.#dynamicFrequencies(sequenceLength);
    for (let index = 0; index < count; index++) {
      const { cos, sin } = stretched
        ? this.#compute(stretched, position + index)
        : this.#cached(position + index);
      out.cos.set(cos, (out.row + index) * half);
      out.sin.set(sin, (out.row + index) * half);
    }
  }

  #cached(position: number): { cos: Float32Array; sin: Float32Array } {
    let row = this.#rows.get(position);
    if (row === undefined) {
      row = this.#compute(this.#frequencies, position);
      this.#rows.set(position, row);
    }
    return row;
  }

  #compute(frequencies: Float32Array, position: number): { cos: Float32Array; sin: Float32Array } {
    const angles = frequencies.map((frequency) => frequency * position);
    return {
      cos: angles.map((angle) => Math.cos(angle) * this.#scale),
      sin: angles.map((angle) => Math.sin(angle) * this.#scale),
    };
  }

  /** "NTK-aware dynamic" scaling: the base grows with the sequence once it exceeds the original context. */
  #dynamicFrequencies(sequenceLength: number): Float32Array | null {
    const { scaling, theta, dimensions } = this.#config;
    if (scaling.type !== "dynamic" || sequenceLength <= scaling.originalMaxPositions) return null;
    const stretch = (scaling.factor * sequenceLength) / scaling.originalMaxPositions - (scaling.factor - 1);
    return plainFrequencies(theta * stretch ** (dimensions / (dimensions - 2)), dimensions);
  }
}

function plainFrequencies(theta: number, dimensions: number): Float32Array {
  return Float32Array.from({ length: dimensions / 2 }, (_, index) => 1 / theta ** ((2 * index) / dimensions));
}

function inverseFrequencies(config: RotaryConfig): Float32Array {
  const plain = plainFrequencies(config.theta, config.dimensions);
  const { scaling } = config;
  switch (scaling.type) {
    case "default":
    case "dynamic":
      return plain;
    case "linear":
      return plain.map((frequency) => frequency / scaling.factor);
    case "llama3":
      return plain.map((frequency) => llama3Frequency(frequency, scaling));
    case "yarn":
      return yarnFrequencies(plain, config, scaling);
    default:
      return scaling satisfies never;
  }
}

type Scaling<T extends string> = Extract<RotaryConfig["scaling"], { type: T }>;

/** Llama 3.1: long waves are slowed by the factor, short ones kept, those between interpolated. */
function llama3Frequency(frequency: number, scaling: Scaling<"llama3">): number {
  const { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalMaxPositions } = scaling;
  const wavelength = (2 * Math.PI) / frequency;
  if (wavelength < originalMaxPositions / high) return frequency;
  if (wavelength > originalMaxPositions / low) return frequency / factor;
  const smooth = (originalMaxPositions / wavelength - low) / (high - low);
  return ((1 - smooth) * frequency) / factor + smooth * frequency;
}

/** YaRN, arXiv 2309.00071, "NTK-by-parts": a ramp over dimensions between interpolated and plain frequencies. */
function yarnFrequencies(plain: Float32Array, config: RotaryConfig, scaling: Scaling<"yarn">): Float32Array {
  const { dimensions, theta } = config;
  const rotationsAt = (rotations: number) =>
    (dimensions * Math.log(scaling.originalMaxPositions / (rotations * 2 * Math.PI))) / (2 * Math.log(theta));
  const round = scaling.truncate
    ? { low: Math.floor, high: Math.ceil }
    : { low: (x: number) => x, high: (x: number) => x };
  const low = Math.max(round.low(rotationsAt(scaling.betaFast)), 0);
  let high = Math.min(round.high(rotationsAt(scaling.betaSlow)), dimensions - 1);
  if (low === high) high += 0.001; // as in the reference implementation: no division by zero
  return plain.map((frequency, index) => {
    const ramp = Math.min(1, Math.max(0, (index - low) / (high - low)));
    return (frequency / scaling.factor) * ramp + frequency * (1 - ramp);
  });
}
