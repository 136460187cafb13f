// What int8 and int4 share: values in groups of consecutive ones, each with a symmetric 16-bit scale.
//
//   u32 group size | f32 unit | f16 scale of each group | the integers
//
// A value is integer * (unit * scale), both products rounded to f32. The unit is the largest group's scale, which
// keeps the others in the range where f16 is precise however small or large the tensor's values are.

import { float16ToFloat32, float32ToFloat16 } from "../../kernels/checkpoint/float16.ts";
import { bytesOf, type Floats, malformedTensor, viewOf, words16 } from "./tensor-codec.ts";

const headerBytes = 8;

export type GroupedIntegers = {
  readonly groupSize: number;
  readonly scales: Floats; // [groups], unit included
  readonly integers: Uint8Array;
};

/** Throws AdapterError `container_tensor_malformed` unless `integerBytes` follow the scales. */
export function readGroups(bytes: Uint8Array, count: number, integerBytes: number): GroupedIntegers {
  if (bytes.length < headerBytes) throw malformedTensor(`a tensor of groups has ${bytes.length} bytes`);
  const groupSize = viewOf(bytes).getUint32(0, true);
  if (groupSize === 0 || groupSize % 2 === 1)
    throw malformedTensor(`the group size ${groupSize} is not even`);
  const groups = Math.ceil(count / groupSize);
  const integersAt = headerBytes + groups * 2;
  if (bytes.length !== integersAt + integerBytes) {
    throw malformedTensor(
      `a tensor has ${bytes.length} bytes where ${count} values in groups of ${groupSize} take ${integersAt + integerBytes}`,
    );
  }
  const unit = viewOf(bytes).getFloat32(4, true);
  const scales = new Float32Array(groups);
  float16ToFloat32(words16(bytes, headerBytes, groups), scales);
  for (let group = 0; group < groups; group++) scales[group] = unit * scales[group]!;
  return { groupSize, scales, integers: bytes.subarray(integersAt) };
}

/** Header and scales for `values`, their integers in -levels..levels, and the bytes around them. */
export function quantizeGroups(
  values: Float32Array,
  { groupSize, levels, shrinks }: QuantizeOptions,
): { readonly head: Uint8Array; readonly integers: Int8Array } {
  if (groupSize <= 0 || groupSize % 2 === 1) throw new RangeError(`the group size ${groupSize} is not even`);
  const groups = Math.ceil(values.length / groupSize);
  const groupOf = (group: number) => values.subarray(group * groupSize, (group + 1) * groupSize);
  const wanted = Float32Array.from({ length: groups }, (_, group) => largest(groupOf(group)) / levels);
  const unit = largest(wanted) || 1;
  const integers = new Int8Array(values.length);
  const scaleWords = new Uint16Array(groups);
  for (let group = 0; group < groups; group++) {
    const own = groupOf(group);
    let best = { error: Infinity, word: 0, scale: 0 };
    for (const shrink of shrinks) {
      const { word, scale } = roundScale((wanted[group]! * shrink) / unit, unit);
      const error = roundingError(own, scale, levels);
      if (error < best.error) best = { error, word, scale };
    }
    scaleWords[group] = best.word;
    for (let i = 0; i < own.length; i++) {
      integers[group * groupSize + i] = nearest(own[i]!, best.scale, levels);
    }
  }
  const head = new Uint8Array(headerBytes + groups * 2);
  const view = viewOf(head);
  view.setUint32(0, groupSize, true);
  view.setFloat32(4, unit, true);
  head.set(bytesOf(scaleWords), headerBytes);
  return { head, integers };
}

export type QuantizeOptions = {
  readonly groupSize: number; // even
  readonly levels: number; // largest integer
  /** Factors to the scale that maps a group's largest value to `levels`; the one with the least error wins. */
  readonly shrinks: readonly number[];
};

/** A scale as the reader will see it. */
function roundScale(relative: number, unit: number): { readonly word: number; readonly scale: number } {
  const word = new Uint16Array(1);
  const rounded = new Float32Array(1);
  float32ToFloat16(Float32Array.of(relative), word);
  float16ToFloat32(word, rounded);
  return { word: word[0]!, scale: Math.fround(unit * rounded[0]!) };
}

function nearest(value: number, scale: number, levels: number): number {
  if (scale === 0) return 0;
  return Math.max(-levels, Math.min(levels, Math.round(value / scale)));
}

function roundingError(values: Float32Array, scale: number, levels: number): number {
  let sum = 0;
  for (const value of values) sum += (value - nearest(value, scale, levels) * scale) ** 2;
  return sum;
}

function largest(values: Float32Array): number {
  let max = 0;
  for (const value of values) max = Math.max(max, Math.abs(value));
  return max;
}
