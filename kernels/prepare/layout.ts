// Where every weight of the served graph lies in the prepared data file, and which stored tensors it comes
// from. Pure: reads no weights.

import type { ModelConfig } from "../model-config.ts";
import {
  embeddingTensor,
  finalNormTensor,
  headTensor,
  type LayerTensors,
  type LinearTensors,
  type TensorSlice,
  whole,
} from "../model-family.ts";
import type { ExternalRange } from "../onnx/graph-builder.ts";
import { blocksPerRow, packedRowBytes, type QuantizedBits } from "./quantize-blocks.ts";

export const encodingBits = { int4: 4, int8: 8 } as const satisfies Record<string, QuantizedBits>;
const valueBytes = { float16: 2, float32: 4 } as const;

type QuantizedEncoding = keyof typeof encodingBits;
/** Float16 is served by devices that have it: kernels/webgpu/half-matrices.ts. */
export type MatrixEncoding = QuantizedEncoding | keyof typeof valueBytes;

export function isQuantized(encoding: MatrixEncoding): encoding is QuantizedEncoding {
  return encoding in encodingBits;
}

/** Of one row: its values, and their scales where they are quantized. */
export function encodedRowBytes(
  encoding: MatrixEncoding,
  columns: number,
): { readonly data: number; readonly scales: number } {
  if (!isQuantized(encoding)) return { data: columns * valueBytes[encoding], scales: 0 };
  return { data: packedRowBytes(columns, encodingBits[encoding]), scales: blocksPerRow(columns) * 4 };
}

/** y [rows] = W x [columns]; W's rows are those of the sources, one after the other. */
export type PreparedMatrix = {
  readonly name: string;
  readonly rows: number;
  readonly columns: number;
  readonly encoding: MatrixEncoding;
  readonly sources: readonly TensorSlice[];
  readonly data: ExternalRange;
  readonly scales: ExternalRange; // empty where it is not quantized
};

/** A norm weight or a bias, always float32. */
export type PreparedVector = {
  readonly name: string;
  readonly length: number;
  readonly sources: readonly TensorSlice[];
  readonly offset: number; // added to every value
  readonly data: ExternalRange;
};

export type PreparedLayer = {
  readonly qkv: PreparedMatrix;
  readonly qkvBias: PreparedVector | null;
  readonly o: PreparedMatrix;
  readonly oBias: PreparedVector | null;
  readonly gate: PreparedMatrix;
  readonly gateBias: PreparedVector | null;
  readonly up: PreparedMatrix;
  readonly upBias: PreparedVector | null;
  readonly down: PreparedMatrix;
  readonly downBias: PreparedVector | null;
  readonly attentionNorm: PreparedVector;
  readonly mlpNorm: PreparedVector;
  readonly queryNorm: PreparedVector | null;
  readonly keyNorm: PreparedVector | null;
  readonly attentionOutputNorm: PreparedVector | null;
  readonly mlpOutputNorm: PreparedVector | null;
};

export type PreparedLayout = {
  readonly layers: readonly PreparedLayer[];
  readonly finalNorm: PreparedVector;
  readonly head: PreparedMatrix;
  readonly matrices: readonly PreparedMatrix[];
  readonly vectors: readonly PreparedVector[];
  readonly sizeBytes: number;
};

export type LayoutInput = {
  readonly config: ModelConfig;
  readonly normOffset: 0 | 1;
  readonly layers: readonly LayerTensors[];
  readonly encoding: MatrixEncoding;
};

/** ONNX asks that large external tensors start on a page, so that they can be mapped. */
const alignment = 4096;

export function planLayout({ config, normOffset, layers, encoding }: LayoutInput): PreparedLayout {
  const matrices: PreparedMatrix[] = [];
  const vectors: PreparedVector[] = [];
  let end = 0;

  const reserve = (length: number): ExternalRange => {
    const offset = Math.ceil(end / alignment) * alignment;
    end = offset + length;
    return { offset, length };
  };
  const matrix = (name: string, columns: number, sources: readonly TensorSlice[]): PreparedMatrix => {
    const rows = sources.reduce((sum, source) => sum + source.rows, 0);
    const rowBytes = encodedRowBytes(encoding, columns);
    const data = reserve(rows * rowBytes.data);
    const scales = reserve(rows * rowBytes.scales);
    const made = { name, rows, columns, encoding, sources, data, scales };
    matrices.push(made);
    return made;
  };
  const vector = (name: string, sources: readonly TensorSlice[], offset: number): PreparedVector => {
    const length = sources.reduce((sum, source) => sum + source.rows, 0);
    const made = { name, length, sources, offset, data: reserve(length * 4) };
    vectors.push(made);
    return made;
  };
  const norm = (name: string, length: number) => vector(name, [whole(name, length)], normOffset);
  const optionalNorm = (name: string | null, length: number) => (name === null ? null : norm(name, length));
  const bias = (name: string, parts: readonly LinearTensors[]) => {
    const sources = parts.flatMap((part) => (part.bias === null ? [] : [part.bias]));
    return sources.length === 0 ? null : vector(name, sources, 0);
  };

  const { hiddenSize: hidden, intermediateSize: intermediate, headDim } = config;
  const prepared = layers.map((layer, index): PreparedLayer => {
    const qkv = [layer.q, layer.k, layer.v];
    const weights = (parts: readonly LinearTensors[]) => parts.map((part) => part.weight);
    const name = (part: string) => `layers.${index}.${part}`;
    return {
      qkv: matrix(name("qkv"), hidden, weights(qkv)),
      qkvBias: bias(name("qkv.bias"), qkv),
      o: matrix(name("o"), config.heads * headDim, weights([layer.o])),
      oBias: bias(name("o.bias"), [layer.o]),
      gate: matrix(name("gate"), hidden, weights([layer.gate])),
      gateBias: bias(name("gate.bias"), [layer.gate]),
      up: matrix(name("up"), hidden, weights([layer.up])),
      upBias: bias(name("up.bias"), [layer.up]),
      down: matrix(name("down"), intermediate, weights([layer.down])),
      downBias: bias(name("down.bias"), [layer.down]),
      attentionNorm: norm(layer.attentionNorm, hidden),
      mlpNorm: norm(layer.mlpNorm, hidden),
      queryNorm: optionalNorm(layer.queryNorm, headDim),
      keyNorm: optionalNorm(layer.keyNorm, headDim),
      attentionOutputNorm: optionalNorm(layer.attentionOutputNorm, hidden),
      mlpOutputNorm: optionalNorm(layer.mlpOutputNorm, hidden),
    };
  });
  const head = matrix("head", hidden, [
    whole(config.tiedHead ? embeddingTensor : headTensor, config.vocabSize),
  ]);
  const finalNorm = norm(finalNormTensor, hidden);
  return { layers: prepared, finalNorm, head, matrices, vectors, sizeBytes: end };
}
