// Builds an ONNX model node by node and serialises it (onnx.proto3, IR version 10). Weights may live in one
// external-data file beside the model. Knows operators by name only; what a transformer is, it does not know.

import { MessageWriter } from "./protobuf.ts";

/** Element types by their TensorProto.DataType number. */
export const elementTypes = { float32: 1, uint8: 2, int8: 3, int32: 6, int64: 7, float16: 10 } as const;
export type ElementType = keyof typeof elementTypes;

/** A dimension is a number, or the name of a dynamic one. */
export type Dimension = number | string;
export type AttributeValue = number | string | readonly number[] | { readonly float: number };

/** Where an external tensor's bytes lie in the data file. */
export type ExternalRange = { readonly offset: number; readonly length: number };

const contribDomain = "com.microsoft";
const attributeTypes = { float: 1, int: 2, string: 3, ints: 7 } as const;

export class GraphBuilder {
  readonly #nodes: (() => MessageWriter)[] = [];
  readonly #initializers: MessageWriter[] = [];
  readonly #inputs: MessageWriter[] = [];
  readonly #outputs: MessageWriter[] = [];
  readonly #constants = new Map<string, string>();
  readonly #renamed = new Map<string, string>();
  readonly #dataFile: string;
  #names = 0;

  /** @param dataFile name of the external-data file, relative to the model file */
  constructor(dataFile = "") {
    this.#dataFile = dataFile;
  }

  get nodeCount(): number {
    return this.#nodes.length;
  }

  input(name: string, type: ElementType, shape: readonly Dimension[]): string {
    this.#inputs.push(valueInfo(name, type, shape));
    return name;
  }

  output(name: string, type: ElementType, shape: readonly Dimension[]): void {
    this.#outputs.push(valueInfo(name, type, shape));
  }

  /** Gives a node's output another name: as an output of the graph it then needs no node that copies it. */
  rename(tensor: string, name: string): void {
    if (this.#renamed.has(tensor)) throw new RangeError(`tensor ${tensor} has another name already`);
    this.#renamed.set(tensor, name);
  }

  /** A small int64 vector inside the model file; equal vectors share one initializer. */
  integers(values: readonly number[]): string {
    const key = values.join(",");
    const known = this.#constants.get(key);
    if (known !== undefined) return known;
    const name = `shape[${key}]`;
    this.#constants.set(key, name);
    const data = new BigInt64Array(values.map(BigInt));
    this.#initializers.push(
      tensorProto(name, "int64", [values.length]).bytes(9, new Uint8Array(data.buffer)),
    );
    return name;
  }

  /** A constant number. */
  float(value: number): string {
    return this.#scalar(`float[${value}]`, "float32", new Uint8Array(Float32Array.of(value).buffer));
  }

  /** A constant of 0 to 255. */
  byte(value: number): string {
    return this.#scalar(`byte[${value}]`, "uint8", Uint8Array.of(value));
  }

  #scalar(name: string, type: ElementType, data: Uint8Array): string {
    if (this.#constants.has(name)) return name;
    this.#constants.set(name, name);
    this.#initializers.push(tensorProto(name, type, []).bytes(9, data));
    return name;
  }

  /** A weight whose bytes lie in the external-data file. */
  external(name: string, type: ElementType, shape: readonly number[], range: ExternalRange): string {
    const tensor = tensorProto(name, type, shape);
    const entries = { location: this.#dataFile, offset: `${range.offset}`, length: `${range.length}` };
    for (const [key, value] of Object.entries(entries)) {
      tensor.message(13, new MessageWriter().string(1, key).string(2, value));
    }
    tensor.integer(14, 1); // data_location = EXTERNAL
    this.#initializers.push(tensor);
    return name;
  }

  /** Appends a node of the standard domain; returns its output names (given, or made up). */
  node(
    operator: string,
    inputs: readonly string[],
    options: { outputs?: number | readonly string[]; attributes?: Record<string, AttributeValue> } = {},
  ): string[] {
    return this.#append("", operator, inputs, options);
  }

  /** The same for ONNX Runtime's own operators. */
  contrib(
    operator: string,
    inputs: readonly string[],
    options: { outputs?: number | readonly string[]; attributes?: Record<string, AttributeValue> } = {},
  ): string[] {
    return this.#append(contribDomain, operator, inputs, options);
  }

  finish(): Uint8Array {
    const graph = new MessageWriter().string(2, "cotenant");
    for (const node of this.#nodes) graph.message(1, node());
    for (const initializer of this.#initializers) graph.message(5, initializer);
    for (const input of this.#inputs) graph.message(11, input);
    for (const output of this.#outputs) graph.message(12, output);
    return new MessageWriter()
      .integer(1, 10)
      .string(2, "cotenant")
      .message(7, graph)
      .message(8, new MessageWriter().string(1, "").integer(2, 21))
      .message(8, new MessageWriter().string(1, contribDomain).integer(2, 1))
      .finish();
  }

  #append(
    domain: string,
    operator: string,
    inputs: readonly string[],
    options: { outputs?: number | readonly string[]; attributes?: Record<string, AttributeValue> },
  ): string[] {
    const wanted = options.outputs ?? 1;
    const outputs =
      typeof wanted === "number" ? Array.from({ length: wanted }, () => `t${this.#names++}`) : [...wanted];
    const index = this.#nodes.length;
    this.#nodes.push(() => {
      const node = new MessageWriter();
      for (const input of inputs) node.string(1, this.#renamed.get(input) ?? input);
      for (const output of outputs) node.string(2, this.#renamed.get(output) ?? output);
      node.string(3, `${operator}_${index}`).string(4, operator);
      for (const [name, value] of Object.entries(options.attributes ?? {}))
        node.message(5, attribute(name, value));
      return node.string(7, domain);
    });
    return outputs;
  }
}

function attribute(name: string, value: AttributeValue): MessageWriter {
  const out = new MessageWriter().string(1, name);
  if (typeof value === "number") return out.integer(3, value).integer(20, attributeTypes.int);
  if (typeof value === "string") return out.string(4, value).integer(20, attributeTypes.string);
  if ("float" in value) return out.float(2, value.float).integer(20, attributeTypes.float);
  for (const item of value) out.integer(8, item);
  return out.integer(20, attributeTypes.ints);
}

function tensorProto(name: string, type: ElementType, shape: readonly number[]): MessageWriter {
  const tensor = new MessageWriter();
  for (const dimension of shape) tensor.integer(1, dimension);
  return tensor.integer(2, elementTypes[type]).string(8, name);
}

function valueInfo(name: string, type: ElementType, shape: readonly Dimension[]): MessageWriter {
  const dimensions = new MessageWriter();
  for (const dimension of shape) {
    const field = new MessageWriter();
    dimensions.message(
      1,
      typeof dimension === "number" ? field.integer(1, dimension) : field.string(2, dimension),
    );
  }
  const tensor = new MessageWriter().integer(1, elementTypes[type]).message(2, dimensions);
  return new MessageWriter().string(1, name).message(2, new MessageWriter().message(1, tensor));
}
