// Reverse-mode differentiation of an ONNX graph while it is written: an operation says how its result is computed
// and how its inputs' gradients follow from the result's. Knows the operations of a transformer layer's two-dimensional
// values, [tokens, width]; the layer itself it does not know.
//
// A value's nodes are written when first asked for, so a backward graph recomputes only what some gradient reads.

import { type AttributeValue, GraphBuilder } from "../onnx/graph-builder.ts";

type NodeOptions = {
  readonly outputs?: number | readonly string[];
  readonly attributes?: Record<string, AttributeValue>;
};

export class Value {
  readonly #write: () => string;
  readonly #gradients: AddTo[] = [];
  #name: string | null = null;

  constructor(write: () => string) {
    this.#write = write;
  }

  /** The tensor's name in the graph. */
  get name(): string {
    this.#name ??= this.#write();
    return this.#name;
  }

  /** From now on the value is this tensor: what computes it is not written. */
  given(name: string): void {
    this.#name = name;
  }

  addGradient(name: string): void {
    this.#gradients.push((graph, before) => (before === null ? name : graph.node("Add", [before, name])));
  }

  /** The same for the product of two matrices, which is added while it is computed. */
  addGradientProduct(x: string, y: string): void {
    this.#gradients.push((graph, before) =>
      before === null ? graph.matmul(x, y) : graph.node("Gemm", [x, y, before]),
    );
  }

  /** The sum of all that was added, or null where the loss does not depend on the value. */
  gradient(graph: DifferentiableGraph): string | null {
    return this.#gradients.reduce<string | null>((before, addTo) => addTo(graph, before), null);
  }
}

type AddTo = (graph: DifferentiableGraph, before: string | null) => string;

export type ProductOptions = { readonly transA?: 1; readonly transB?: 1; readonly alpha?: number };
type NormShape = { readonly width: number; readonly columns: number; readonly epsilon: number };
/** A matrix [out, in], or a vector. */
export type FrozenWeight = { readonly name: string; readonly shape: readonly number[] };
type LowRankInputs = { readonly a: string; readonly scale: string };

export class DifferentiableGraph {
  readonly builder: GraphBuilder;
  readonly #steps: (() => void)[] = []; // of the backward pass, in forward order
  readonly #constants = new Map<number, string>();

  constructor(builder = new GraphBuilder()) {
    this.builder = builder;
  }

  value(write: () => string): Value {
    return new Value(write);
  }

  /** A value of several results, `backward` being called once with the gradients of all, if any is wanted. */
  operation(results: readonly Value[], backward: (gradients: (string | null)[]) => void): void {
    this.#steps.push(() => {
      const gradients = results.map((result) => result.gradient(this));
      if (gradients.some((gradient) => gradient !== null)) backward(gradients);
    });
  }

  /** A value of one result. */
  differentiable(write: () => string, backward: (gradient: string) => void): Value {
    const result = new Value(write);
    this.operation([result], ([gradient]) => backward(gradient!));
    return result;
  }

  /** Writes the nodes of all gradients, once the gradients of the graph's results have been added to them. */
  differentiate(): void {
    for (const step of this.#steps.toReversed()) step();
  }

  node(operator: string, inputs: readonly string[], options: NodeOptions = {}): string {
    return this.builder.node(operator, inputs, options)[0]!;
  }

  /** Of two matrices. */
  matmul(x: string, y: string, options: ProductOptions = {}): string {
    return this.batchedMatmul(x, y, options);
  }

  /** Of matrices in the last two of four dimensions. */
  batchedMatmul(x: string, y: string, options: ProductOptions = {}): string {
    const { alpha, ...transposed } = options;
    const scaled = alpha === undefined ? {} : { alpha: { float: alpha } };
    return this.builder.contrib("FusedMatMul", [x, y], { attributes: { ...transposed, ...scaled } })[0]!;
  }

  reshape(x: string, shape: readonly number[]): string {
    return this.node("Reshape", [x, this.builder.integers(shape)]);
  }

  transpose(x: string, perm: readonly number[]): string {
    return this.node("Transpose", [x], { attributes: { perm } });
  }

  constant(value: number): string {
    let name = this.#constants.get(value);
    if (name === undefined) {
      name = this.node("Constant", [], { attributes: { value_float: { float: value } } });
      this.#constants.set(value, name);
    }
    return name;
  }

  add(x: Value, y: Value): Value {
    return this.differentiable(
      () => this.node("Add", [x.name, y.name]),
      (gradient) => {
        x.addGradient(gradient);
        y.addGradient(gradient);
      },
    );
  }

  /** A frozen weight as a tensor of the graph: an input. */
  frozen({ name, shape }: FrozenWeight): string {
    return this.builder.input(name, "float32", shape);
  }

  /** x Wᵀ + bias; W [out, in] and the bias are frozen. */
  linear(x: Value, matrix: FrozenWeight, bias: string | null): Value {
    const weight = this.frozen(matrix);
    return this.differentiable(
      () => {
        const y = this.matmul(x.name, weight, { transB: 1 });
        return bias === null ? y : this.node("Add", [y, bias]);
      },
      (gradient) => x.addGradientProduct(gradient, weight),
    );
  }

  /**
   * (x aᵀ) scale of modules that read the same x, with a [rank, in], scale [1]: what `addLowRank` takes. Several share
   * their products by x: those of one rank alone run at half the speed.
   * @param ranks name of their ranks, int64 [modules]
   * @param onGradients receives what writes a's gradients
   */
  readLowRank(
    x: Value,
    { modules, ranks }: { readonly modules: readonly LowRankInputs[]; readonly ranks: string },
    onGradients: (write: () => string[]) => void,
  ): Value[] {
    const isOne = modules.length === 1;
    const joined = (names: readonly string[], axis: 0 | 1) =>
      isOne ? names[0]! : this.node("Concat", names, { attributes: { axis } });
    const cut = (name: string, axis: 0 | 1) =>
      isOne
        ? [name]
        : this.builder.node("Split", [name, ranks], { outputs: modules.length, attributes: { axis } });
    const all = this.value(() =>
      joined(
        modules.map(({ a }) => a),
        0,
      ),
    );
    let parts: string[] | null = null;
    const reads = modules.map(({ scale }, index) =>
      this.value(() => {
        parts ??= cut(this.matmul(x.name, all.name, { transB: 1 }), 1);
        return this.node("Mul", [parts[index]!, scale]);
      }),
    );
    // Called only when all of them have gradients: the layer adds every one of them to something.
    this.operation(reads, (gradients) => {
      const scaled = gradients.map((gradient, index) => this.node("Mul", [gradient!, modules[index]!.scale]));
      const gradient = joined(scaled, 1);
      onGradients(() => cut(this.matmul(gradient, x.name, { transA: 1 }), 0));
      x.addGradientProduct(gradient, all.name);
    });
    return reads;
  }

  /**
   * y + read b, with b [rank, out].
   * @param onGradient receives what writes b's gradient
   */
  addLowRank(
    y: Value,
    { read, b }: { readonly read: Value; readonly b: string },
    onGradient: (write: () => string) => void,
  ): Value {
    return this.differentiable(
      () => this.node("Gemm", [read.name, b, y.name]),
      (gradient) => {
        onGradient(() => this.matmul(read.name, gradient, { transA: 1 }));
        read.addGradient(this.matmul(gradient, b, { transB: 1 }));
        y.addGradient(gradient);
      },
    );
  }

  /** Consecutive columns of x, one value for each width. */
  splitColumns(x: Value, widths: readonly number[]): Value[] {
    let names: string[] | null = null;
    const split = () =>
      this.builder.node("Split", [x.name, this.builder.integers(widths)], {
        outputs: widths.length,
        attributes: { axis: 1 },
      });
    const parts = widths.map((_, index) =>
      this.value(() => {
        names ??= split();
        return names[index]!;
      }),
    );
    // Called only when all parts have gradients: the layer reads every one of them.
    this.operation(parts, (gradients) =>
      x.addGradient(this.node("Concat", gradients as string[], { attributes: { axis: 1 } })),
    );
    return parts;
  }

  /** Root-mean-square norm (arXiv 1910.07467) of consecutive pieces of `width` values of x [tokens, columns]. */
  norm(x: Value, weight: string, shape: NormShape): Value {
    const { width, columns, epsilon } = shape;
    const inPieces = (y: string) => (width === columns ? y : this.reshape(y, [-1, width]));
    const inTokens = (y: string) => (width === columns ? y : this.reshape(y, [-1, columns]));
    const pieces = this.value(() => inPieces(x.name));
    const { normed, inverse: inverseRoot } = this.normedPieces(pieces, weight, epsilon);
    return this.differentiable(
      () => inTokens(normed.name),
      (gradient) => {
        const inverse = inverseRoot.name;
        const weighted = this.node("Mul", [inPieces(gradient), weight]);
        const unit = this.node("Mul", [pieces.name, inverse]);
        const along = this.node("ReduceMean", [
          this.node("Mul", [weighted, unit]),
          this.builder.integers([-1]),
        ]);
        const across = this.node("Sub", [weighted, this.node("Mul", [unit, along])]);
        x.addGradient(inTokens(this.node("Mul", [across, inverse])));
      },
    );
  }

  /** Pieces x normed, and what they were divided by: one over the root of the mean square. */
  protected normedPieces(x: Value, weight: string, epsilon: number): Record<"normed" | "inverse", Value> {
    let results: string[] | null = null;
    const result = (index: number) =>
      this.value(() => {
        results ??= this.builder.node("SimplifiedLayerNormalization", [x.name, weight], {
          outputs: 2,
          attributes: { axis: -1, epsilon: { float: epsilon } },
        });
        return results[index]!;
      });
    return { normed: result(0), inverse: result(1) };
  }
}
