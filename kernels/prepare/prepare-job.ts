// One piece of preparation work: a range of rows of a matrix, or a vector. Reads stored tensors, writes into the
// data file at the places that the layout names. Runs in worker threads; ranges of different jobs never overlap.

import { writeSync } from "node:fs";
import { float32ToFloat16 } from "../checkpoint/float16.ts";
import type { CheckpointWeights } from "../checkpoint/weights.ts";
import { CheckpointError } from "../errors.ts";
import { encodingBits, type PreparedMatrix, type PreparedVector } from "./layout.ts";
import { blocksPerRow, packedRowBytes, quantizeRows } from "./quantize-blocks.ts";

export type PrepareJob =
  | { readonly type: "vector"; readonly vector: PreparedVector }
  | {
      readonly type: "rows";
      readonly matrix: PreparedMatrix;
      readonly source: number; // index into the matrix' sources
      readonly firstRow: number; // within the source
      readonly rows: number;
    };

/** Values per job: large enough to stream, small enough to share the work and to bound memory. */
const jobValues = 1 << 22;

export function planJobs(
  matrices: readonly PreparedMatrix[],
  vectors: readonly PreparedVector[],
): PrepareJob[] {
  const jobs: PrepareJob[] = vectors.map((vector) => ({ type: "vector", vector }));
  for (const matrix of matrices) {
    const rowsPerJob = Math.max(1, Math.floor(jobValues / matrix.columns));
    for (const [source, slice] of matrix.sources.entries()) {
      for (let firstRow = 0; firstRow < slice.rows; firstRow += rowsPerJob) {
        const rows = Math.min(rowsPerJob, slice.rows - firstRow);
        jobs.push({ type: "rows", matrix, source, firstRow, rows });
      }
    }
  }
  return jobs;
}

export function jobWeight(job: PrepareJob): number {
  return job.type === "vector" ? job.vector.length : job.rows * job.matrix.columns;
}

/** @throws CheckpointError `missing_tensor`, `wrong_shape`, `non_finite_weights`, `weights_exceed_float16` */
export function runJob(job: PrepareJob, weights: CheckpointWeights, dataFile: number): void {
  if (job.type === "vector") prepareVector(job.vector, weights, dataFile);
  else prepareRows(job, weights, dataFile);
}

function prepareVector(vector: PreparedVector, weights: CheckpointWeights, dataFile: number): void {
  const out = new Float32Array(vector.length);
  let at = 0;
  for (const source of vector.sources) {
    weights.require(source.name, [source.storedRows]);
    out.set(weights.readFloat32Rows(source.name, source.firstRow, source.rows), at);
    at += source.rows;
  }
  if (vector.offset !== 0) for (let i = 0; i < out.length; i++) out[i] = out[i]! + vector.offset;
  write(dataFile, out, vector.data.offset);
}

function prepareRows(
  job: Extract<PrepareJob, { type: "rows" }>,
  weights: CheckpointWeights,
  dataFile: number,
): void {
  const { matrix } = job;
  const { columns } = matrix;
  const slice = matrix.sources[job.source]!;
  weights.require(slice.name, [slice.storedRows, columns]);
  const values = weights.readFloat32Rows(slice.name, slice.firstRow + job.firstRow, job.rows);
  const earlier = matrix.sources.slice(0, job.source).reduce((sum, source) => sum + source.rows, 0);
  const row = earlier + job.firstRow;
  if (matrix.encoding === "float32") {
    write(dataFile, values, matrix.data.offset + row * columns * 4);
    return;
  }
  if (matrix.encoding === "float16") {
    write(dataFile, halvesOf(values, slice.name), matrix.data.offset + row * columns * 2);
    return;
  }
  const bits = encodingBits[matrix.encoding];
  const blocks = blocksPerRow(columns);
  const rowBytes = packedRowBytes(columns, bits);
  const packed = new Uint8Array(job.rows * rowBytes);
  const scales = new Float32Array(job.rows * blocks);
  quantizeRows(values, columns, bits, { packed, scales });
  write(dataFile, packed, matrix.data.offset + row * rowBytes);
  write(dataFile, scales, matrix.scales.offset + row * blocks * 4);
}

/** The largest float16; what is beyond it would be rounded to it at best, and to infinity at worst. */
const largestHalf = 65_504;

function halvesOf(values: Float32Array, tensor: string): Uint16Array {
  const beyond = values.find((value) => Math.abs(value) > largestHalf);
  if (beyond !== undefined) {
    throw new CheckpointError(
      "weights_exceed_float16",
      `tensor ${tensor} has a weight of ${beyond}, and float16 ends at ${largestHalf}; serve this checkpoint with --quantize int8 or none`,
    );
  }
  const halves = new Uint16Array(values.length);
  float32ToFloat16(values, halves);
  return halves;
}

function write(file: number, data: Float32Array | Uint16Array | Uint8Array, position: number): void {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  let written = 0;
  while (written < bytes.byteLength) {
    written += writeSync(file, bytes, written, bytes.byteLength - written, position + written);
  }
}
