// The operations of a transformer layer that are not linear maps or norms, with their gradients: rotation, attention,
// the gated activation.

import type { ModelConfig } from "../model-config.ts";
import type { DifferentiableGraph, Value } from "./differentiable-graph.ts";

/** Rows of the tokens at hand, [S, rotated / 2] each. */
export type RotaryNames = { readonly cos: string; readonly sin: string };

/**
 * Rotates heads of x [tokens, heads * headDim]. The gradient turns back: cos stays, sin changes its sign, which holds
 * for scaled tables too, since the transpose of a scaled rotation is the scaled rotation back.
 */
export function rotate(
  graph: DifferentiableGraph,
  x: Value,
  rotary: RotaryNames & { readonly heads: number; readonly headDim: number; readonly dimensions: number },
): Value {
  const { heads, headDim, dimensions, cos, sin } = rotary;
  const attributes = { num_heads: heads, rotary_embedding_dim: dimensions < headDim ? dimensions : 0 };
  const turn = (y: string, sine: string) => {
    const batch = graph.reshape(y, [1, -1, heads * headDim]);
    const first = graph.builder.integers([0]); // the row of cos and sin from which the tokens count on
    const [turned] = graph.builder.contrib("RotaryEmbedding", [batch, first, cos, sine], {
      attributes: { interleaved: 0, ...attributes },
    });
    return graph.reshape(turned!, [-1, heads * headDim]);
  };
  return graph.differentiable(
    () => turn(x.name, sin),
    (gradient) => x.addGradient(turn(gradient, graph.node("Neg", [sin]))),
  );
}

/** Inputs of the graph; attention-tiles.ts says what they hold. */
export type TileNames = Readonly<
  Record<"mask" | "queryRows" | "tokenRows" | "keyRows" | "keyTokenRows", string>
>;

/** Attention of queries [S, heads * headDim] over keys and values [keys, kvHeads * headDim], tile by tile. */
export function attention(
  graph: DifferentiableGraph,
  inputs: {
    readonly queries: Value;
    readonly keys: Value;
    readonly values: Value;
    readonly tiles: TileNames;
  },
  config: Pick<ModelConfig, "heads" | "kvHeads" | "headDim" | "attentionScale">,
): Value {
  const { heads, kvHeads, headDim, attentionScale: alpha } = config;
  const { queries, keys, values, tiles } = inputs;
  const rows = (x: string, names: string) => graph.node("Gather", [graph.reshape(x, [-1, headDim]), names]);
  const queryMajor = (x: string) => rows(x, tiles.queryRows); // [T, K, G Q, D]
  const tokenMajor = (x: string) => graph.reshape(rows(x, tiles.tokenRows), [-1, heads * headDim]);
  const keyMajor = (x: string) => rows(x, tiles.keyRows); // [T, K, N, D]
  const keyTokens = (x: string) => graph.reshape(rows(x, tiles.keyTokenRows), [-1, kvHeads * headDim]);

  const q = graph.value(() => queryMajor(queries.name));
  const k = graph.value(() => keyMajor(keys.name));
  const v = graph.value(() => keyMajor(values.name));
  const shares = graph.value(() => {
    const scores = graph.batchedMatmul(q.name, k.name, { transB: 1, alpha });
    return graph.node("Softmax", [graph.node("Add", [scores, tiles.mask])], { attributes: { axis: -1 } });
  }); // [T, K, G Q, N]
  const context = graph.value(() => graph.batchedMatmul(shares.name, v.name)); // [T, K, G Q, D]
  return graph.differentiable(
    () => tokenMajor(context.name),
    (gradient) => {
      const contextGradient = queryMajor(gradient);
      values.addGradient(keyTokens(graph.batchedMatmul(shares.name, contextGradient, { transA: 1 })));
      const shareGradient = graph.batchedMatmul(contextGradient, v.name, { transB: 1 });
      // The sum over keys of share times its gradient, by the shorter way over the head's dimensions.
      const mean = graph.node("ReduceSum", [
        graph.node("Mul", [contextGradient, context.name]),
        graph.builder.integers([-1]),
      ]);
      const scoreGradient = graph.node("Mul", [shares.name, graph.node("Sub", [shareGradient, mean])]);
      queries.addGradient(tokenMajor(graph.batchedMatmul(scoreGradient, k.name, { alpha })));
      keys.addGradient(keyTokens(graph.batchedMatmul(scoreGradient, q.name, { transA: 1, alpha })));
    },
  );
}

/** activation(gate) * up */
export function gated(
  graph: DifferentiableGraph,
  inputs: { readonly gate: Value; readonly up: Value },
  activation: ModelConfig["activation"],
): Value {
  const { gate, up } = inputs;
  const { write, gateGradient } = activations[activation];
  const activated = graph.value(() => write(graph, gate.name));
  return graph.differentiable(
    () => graph.node("Mul", [activated.name, up.name]),
    (gradient) => {
      const upGradient = graph.node("Mul", [gradient, activated.name]);
      up.addGradient(upGradient);
      const of = { x: gate.name, y: activated.name, up: up.name, gradient, upGradient };
      gate.addGradient(gateGradient(graph, of));
    },
  );
}

/** Of y(x) * up, with the gradient by that and by `up`, which is the former times y. */
type GatedNames = Readonly<Record<"x" | "y" | "up" | "gradient" | "upGradient", string>>;

type Activation = {
  readonly write: (graph: DifferentiableGraph, x: string) => string;
  readonly gateGradient: (graph: DifferentiableGraph, of: GatedNames) => string;
};

const activations = {
  /** y = x s with s the sigmoid: y' = s + y (1 - s), so g up y' = up ((g - g y) s + g y) */
  silu: {
    write: (graph, x) => graph.builder.contrib("QuickGelu", [x], { attributes: { alpha: { float: 1 } } })[0]!,
    gateGradient: (graph, { x, up, gradient, upGradient }) => {
      const rest = graph.node("Sub", [gradient, upGradient]);
      const sigmoid = graph.node("Mul", [rest, graph.node("Sigmoid", [x])]);
      return graph.node("Mul", [graph.node("Add", [sigmoid, upGradient]), up]);
    },
  },
  /** y = x h with h = (1 + tanh u) / 2, u = c x + d x³: y' = h + 2 x h (1 - h) (c + 3 d x²) */
  "gelu-tanh": {
    write: (graph, x) => graph.builder.contrib("FastGelu", [x])[0]!,
    gateGradient: (graph, { x, y, up, gradient }) => {
      const c = Math.sqrt(2 / Math.PI);
      const d = c * 0.044715;
      const times = (one: string, other: string) => graph.node("Mul", [one, other]);
      const plus = (one: string, other: string) => graph.node("Add", [one, other]);
      const square = times(x, x);
      const inner = times(x, plus(graph.constant(c), times(square, graph.constant(d))));
      const half = graph.constant(0.5);
      const share = plus(times(graph.node("Tanh", [inner]), half), half);
      const innerSlope = plus(graph.constant(2 * c), times(square, graph.constant(6 * d)));
      const rest = graph.node("Sub", [graph.constant(1), share]);
      const slope = plus(share, times(times(y, rest), innerSlope));
      return times(times(gradient, up), slope);
    },
  },
} as const satisfies Record<ModelConfig["activation"], Activation>;
