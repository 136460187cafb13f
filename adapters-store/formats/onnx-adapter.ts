// ONNX Runtime's .onnx_adapter: named tensors in a FlatBuffers file (onnxruntime/lora/adapter_format). The format holds
// no rank and no alpha. Olive and the model builder of onnxruntime-genai store A as [in, rank] and B, times its scale,
// as [rank, out]; files of other makers that do not are refused by their shapes.

import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { bfloat16ToFloat32, float16ToFloat32 } from "../../kernels/checkpoint/float16.ts";
import { AdapterError } from "../../kernels/errors.ts";
import type { AdapterFormat } from "../adapter-format.ts";
import { FlatTable } from "./flatbuffer.ts";
import { claimOne, pairTensors, requireFinite, requireShape, type TensorPlace } from "./low-rank-file.ts";
import { placeOf, widthsOf } from "./module-places.ts";
import { ModuleSet, transposed } from "./module-set.ts";

const identifier = "TORT";
const formatVersion = 1;
const maxNameBytes = 300;
const maxFileBytes = 2 ** 31 - 1; // FlatBuffers' own limit

const ending = ".onnx_adapter";

export const onnxAdapter: AdapterFormat = {
  claim: (fileNames) => claimOne(fileNames, ending),

  decode(directory, targets) {
    const [fileName] = claimOne(readdirSync(directory), ending)!;
    const parameters = readParameters(join(directory, fileName), fileName);
    const modules = new ModuleSet(targets);
    const file = { fileName, names: parameters.keys(), parse: parseParameterName };
    for (const { path, place, a, b } of pairTensors(file, targets)) {
      const read = (name: string) => readMatrix(parameters.get(name)!, { fileName, name });
      const [storedA, storedB] = [read(a), read(b)];
      const rank = storedB.shape[0] ?? 0;
      const width = widthsOf(place, targets);
      requireShape({ fileName, name: a, shape: storedA.shape }, [width.in, rank], "[in, rank]");
      requireShape({ fileName, name: b, shape: storedB.shape }, [rank, width.out], "[rank, out]");
      modules.addLowRank(place, {
        path,
        rank,
        a: transposed(storedA.values, rank, 1),
        b: transposed(storedB.values, width.out, 1),
        scale: 1,
      });
    }
    return modules.adapter;
  },
};

/** Fields of the schema's tables, in its order. */
const adapterFields = { formatVersion: 0, parameters: 3 } as const;
const parameterFields = { name: 0, dims: 1, dataType: 2, rawData: 3 } as const;

/** Throws AdapterError `onnx_adapter_malformed`. */
function readParameters(path: string, fileName: string): Map<string, FlatTable> {
  const { size } = statSync(path);
  if (size > maxFileBytes) throw malformed(fileName, `has ${size} bytes, more than its format allows`);
  const bytes = readFileSync(path);
  if (bytes.toString("latin1", 4, 8) !== identifier) throw malformed(fileName, "is no ONNX Runtime adapter");
  try {
    const adapter = FlatTable.root(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    const version = adapter.int32(adapterFields.formatVersion);
    if (version !== formatVersion)
      throw malformed(fileName, `is of format version ${version}, not ${formatVersion}`);
    const parameters = new Map<string, FlatTable>();
    let storedBytes = 0;
    for (const parameter of adapter.tables(adapterFields.parameters)) {
      const name = parameter.string(parameterFields.name, maxNameBytes);
      if (parameters.has(name)) throw malformed(fileName, `holds ${JSON.stringify(name)} twice`);
      storedBytes += parameter.length(parameterFields.rawData);
      if (storedBytes > size) throw malformed(fileName, "is smaller than its parameters"); // they overlap
      parameters.set(name, parameter);
    }
    return parameters;
  } catch (error) {
    throw error instanceof RangeError ? malformed(fileName, "points outside of itself") : error;
  }
}

/** `layers.0.attn.q_proj.lora_A.MatMul.weight` of the model builder, `...self_attn.q_proj.lora_A.weight` of Olive. */
function parseParameterName(name: string): TensorPlace | null {
  const pattern = /^(?:base_model\.model\.)?(.{1,200})\.lora_([AB])(?:\.default)?(?:\.MatMul)?\.weight$/;
  const [, path = "", side] = pattern.exec(name) ?? [];
  const place = placeOf(path.replace(/\.attn\.(?=[a-z_]+$)/, ".self_attn."));
  // An embedding is a look-up: these files, made for graphs' inputs, have no layout for it.
  if (place === null || place.kind === "embedding") return null;
  return { path, place, side: side as "A" | "B" };
}

type Matrix = { readonly shape: readonly number[]; readonly values: Float32Array<ArrayBuffer> };

/** By ONNX's TensorProto.DataType. */
const valueReaders: Readonly<
  Record<number, { bytes: number; widen: (raw: ArrayBuffer, values: Float32Array) => void }>
> = {
  1: { bytes: 4, widen: (raw, values) => values.set(new Float32Array(raw)) },
  10: { bytes: 2, widen: (raw, values) => float16ToFloat32(new Uint16Array(raw), values) },
  16: { bytes: 2, widen: (raw, values) => bfloat16ToFloat32(new Uint16Array(raw), values) },
};

/** Throws AdapterError `onnx_adapter_malformed`, `onnx_adapter_unreadable_dtype`, `non_finite_weights`. */
function readMatrix(
  parameter: FlatTable,
  { fileName, name }: { readonly fileName: string; readonly name: string },
): Matrix {
  try {
    const dataType = parameter.int32(parameterFields.dataType);
    const reader = valueReaders[dataType];
    if (reader === undefined) {
      throw new AdapterError(
        "onnx_adapter_unreadable_dtype",
        `${fileName}: ${name} is of ONNX's type ${dataType}; export the adapter unquantized, in float32 or float16`,
      );
    }
    const shape = parameter.int64s(parameterFields.dims, 8);
    const raw = parameter.bytes(parameterFields.rawData);
    const length = shape.reduce((product, size) => product * size, 1);
    if (shape.length !== 2 || shape.some((size) => size < 0) || raw.length !== length * reader.bytes) {
      throw malformed(fileName, `gives ${name} the shape [${shape}] and ${raw.length} bytes`);
    }
    const values = new Float32Array(length);
    reader.widen(raw.buffer, values);
    requireFinite(values, `${fileName}: ${name}`);
    return { shape, values };
  } catch (error) {
    throw error instanceof RangeError ? malformed(fileName, `points outside of itself in ${name}`) : error;
  }
}

function malformed(fileName: string, what: string): AdapterError {
  return new AdapterError("onnx_adapter_malformed", `${fileName} ${what}; export it again`);
}
