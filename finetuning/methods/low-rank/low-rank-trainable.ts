// Low-rank modules as the trained values: A and B of every module in one flat array.

import {
  type AdapterTargets,
  type DecodedAdapter,
  type LowRankModule,
  modulesOf,
  type Projection,
  projections,
} from "../../../kernels/adapter.ts";
import {
  LowRankParameters,
  type ModuleShape,
  type TrainedModule,
} from "../../../kernels/training/low-rank-parameters.ts";
import { stateValue } from "../layer-optimizers.ts";
import type { BackpropTrainable, Segment, State } from "../method.ts";

/** A trainable that starts from low-rank modules, as an initialiser or an adapter has them. */
export interface LowRankStart extends BackpropTrainable {
  begin(start: LowRankParameters): void;
}

export class LowRankTrainable implements LowRankStart {
  readonly #targets: AdapterTargets;
  #parameters: LowRankParameters;

  /** @param shapes layer by layer */
  constructor(targets: AdapterTargets, shapes: readonly ModuleShape[]) {
    this.#targets = targets;
    this.#parameters = new LowRankParameters(shapes, targets);
  }

  begin(start: LowRankParameters): void {
    this.#parameters = start;
  }

  get flat(): Float32Array<ArrayBuffer> {
    return this.#parameters.flat;
  }

  get segments(): readonly Segment[] {
    return layerSegments(this.#parameters.modules.map(({ layer, a, b }) => [layer, a.length + b.length]));
  }

  modules(values?: Float32Array): readonly TrainedModule[] {
    const own = this.#parameters.modules;
    if (values === undefined) return own;
    const placed = (part: Float32Array) => {
      const from = (part.byteOffset - this.flat.byteOffset) / part.BYTES_PER_ELEMENT;
      return values.subarray(from, from + part.length);
    };
    return own.map((module) => ({ ...module, a: placed(module.a), b: placed(module.b) }));
  }

  addGradient(layer: number, { flat }: LowRankParameters, gradient: Float32Array): void {
    const { from, to } = this.segments.find((segment) => segment.layer === layer)!;
    for (let i = from; i < to; i++) gradient[i]! += flat[i]!;
  }

  *served(): Generator<LowRankModule, void, void> {
    for (const { layer, projection, rank, scale, a, b } of this.#parameters.modules) {
      yield { kind: "low-rank", layer, projection, rank, a: a.slice(), b: scaled(b, scale) };
    }
  }

  /** Ranks and scales: an initialiser may have chosen them. */
  state(): State {
    const entries = this.#parameters.modules.flatMap(({ layer, projection, rank, scale }) => [
      [`rank.${layer}.${projection}`, rank],
      [`scale.${layer}.${projection}`, scale],
    ]);
    return { values: Object.fromEntries(entries), arrays: {} };
  }

  restore({ values }: State): void {
    const shapes: ModuleShape[] = [];
    for (let layer = 0; layer < this.#targets.layers; layer++) {
      for (const projection of projections) {
        const rank = values[`rank.${layer}.${projection}`];
        if (rank === undefined) continue;
        shapes.push({ layer, projection, rank, scale: stateValue(values, `scale.${layer}.${projection}`) });
      }
    }
    this.#parameters = new LowRankParameters(shapes, this.#targets);
  }
}

/** A copy. */
export function scaled(values: Float32Array, scale: number): Float32Array<ArrayBuffer> {
  const copy = new Float32Array(values.length);
  for (let i = 0; i < copy.length; i++) copy[i] = values[i]! * scale;
  return copy;
}

/** @param sizes of consecutive pieces, each with its layer, ascending */
export function layerSegments(sizes: readonly (readonly [layer: number, size: number])[]): Segment[] {
  const segments: Segment[] = [];
  let at = 0;
  for (const [layer, size] of sizes) {
    const last = segments.at(-1);
    if (last?.layer === layer) segments[segments.length - 1] = { ...last, to: at + size };
    else segments.push({ layer, from: at, to: at + size });
    at += size;
  }
  return segments;
}

/** The parameters that an adapter's low-rank modules are, in order of layers; each module keeps its rank. */
export function parametersOf(
  adapter: DecodedAdapter,
  targets: AdapterTargets,
  scaleOf: (rank: number) => number,
): LowRankParameters {
  const modules = modulesOf(adapter, "low-rank").toSorted(
    (one, other) => one.layer - other.layer || placeOf(one.projection) - placeOf(other.projection),
  );
  const shapes = modules.map(({ layer, projection, rank }) => ({
    layer,
    projection,
    rank,
    scale: scaleOf(rank),
  }));
  const parameters = new LowRankParameters(shapes, targets);
  for (const [index, { a, b, scale }] of parameters.modules.entries()) {
    a.set(modules[index]!.a);
    b.set(modules[index]!.b.map((value) => value / scale));
  }
  return parameters;
}

function placeOf(projection: Projection): number {
  return projections.indexOf(projection);
}
