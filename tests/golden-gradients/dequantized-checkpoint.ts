// Writes a quantized or float16 base's prepared weights back as a checkpoint, value by value, by the slow twin of widening:
// what the slow forward pass needs to compute with the weights that serve.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { float16ToFloat32 } from "../../kernels/checkpoint/float16.ts";
import { openCheckpointWeights } from "../../kernels/checkpoint/weights.ts";
import { tensorOf, writeSafetensors } from "../../kernels/checkpoint/write-safetensors.ts";
import { embeddingTensor, headTensor } from "../../kernels/model-family.ts";
import { encodingBits, isQuantized, type PreparedMatrix } from "../../kernels/prepare/layout.ts";
import { dequantizeRows } from "../../kernels/reference/dequantize-blocks.ts";
import type { TrainingBase } from "../../kernels/training/training-kernel.ts";

/** The head is written apart from the embeddings, which serving does not quantize. */
export function writeDequantizedCheckpoint(base: TrainingBase, original: string, directory: string): void {
  const data = new Uint8Array(readFileSync(base.dataPath));
  using weights = openCheckpointWeights(original);
  const tensors = new Map<string, { rows: number; columns: number; values: Float32Array<ArrayBuffer> }>();
  for (const matrix of base.layout.matrices) {
    const values = valuesOf(matrix, data);
    let row = 0;
    for (const { name: stored, storedRows, firstRow, rows } of matrix.sources) {
      const { columns } = matrix;
      const name = matrix === base.layout.head ? headTensor : stored;
      const tensor = tensors.get(name) ?? {
        rows: storedRows,
        columns,
        values: new Float32Array(storedRows * columns),
      };
      tensor.values.set(values.subarray(row * columns, (row + rows) * columns), firstRow * columns);
      tensors.set(name, tensor);
      row += rows;
    }
  }
  const { vocabSize, hiddenSize } = base.config;
  mkdirSync(directory);
  const config = JSON.parse(readFileSync(join(original, "config.json"), "utf8"));
  writeFileSync(join(directory, "config.json"), JSON.stringify({ ...config, tie_word_embeddings: false }));
  const vectors = base.layout.vectors.flatMap(({ sources }) =>
    sources.map(({ name, storedRows }) => tensorOf(name, [storedRows], weights.readFloat32(name))),
  );
  writeSafetensors(join(directory, "model.safetensors"), [
    tensorOf(embeddingTensor, [vocabSize, hiddenSize], weights.readFloat32(embeddingTensor)),
    ...Array.from(tensors, ([name, { rows, columns, values }]) => tensorOf(name, [rows, columns], values)),
    ...vectors,
  ]);
}

/** [rows, columns] */
function valuesOf(matrix: PreparedMatrix, file: Uint8Array): Float64Array {
  const part = ({ offset, length }: { offset: number; length: number }) =>
    file.slice(offset, offset + length);
  if (matrix.encoding === "float16") {
    const values = new Float32Array(matrix.rows * matrix.columns);
    float16ToFloat32(new Uint16Array(part(matrix.data).buffer), values);
    return Float64Array.from(values);
  }
  if (!isQuantized(matrix.encoding)) throw new RangeError("the base is as it was");
  const scales = new Float32Array(part(matrix.scales).buffer);
  return dequantizeRows({ packed: part(matrix.data), scales }, matrix.columns, encodingBits[matrix.encoding]);
}
