// Entries of the base's matrices as the trained values: which entries, and what is added to each. An entry has a
// fixed place in the flat array for as long as it is trained, and hands it to the entry that takes its turn.

import type { SparseModule } from "../../../kernels/adapter.ts";
import type { SparseDelta } from "../../../kernels/training/sparse-weights.ts";
import { layerSegments } from "../low-rank/low-rank-trainable.ts";
import type { Segment, State, Trainable } from "../method.ts";

/** Entries of one matrix, in any order. */
export type Support = Pick<SparseModule, "layer" | "projection" | "indices">;

export class SparseTrainable implements Trainable {
  #flat = new Float32Array(0);
  #indices = new Uint32Array(0); // of all supports, which are views of it
  #supports: readonly (Support & { readonly from: number; readonly to: number })[] = [];
  /** Of a matrix' places, by ascending entry; null = they lie so. Matrices that are missing were not looked at yet. */
  readonly #orders = new Map<number, Uint32Array | null>();

  /** @param supports layer by layer */
  constructor(supports: readonly Support[]) {
    this.replace(supports);
  }

  get flat(): Float32Array<ArrayBuffer> {
    return this.#flat;
  }

  /** Live: whoever hands a place over writes its new index here. */
  get supports(): readonly (Support & { readonly from: number; readonly to: number })[] {
    return this.#supports;
  }

  get segments(): readonly Segment[] {
    return layerSegments(this.#supports.map(({ layer, from, to }) => [layer, to - from]));
  }

  /** Matrices whose entries were handed over since they were last in order. */
  get unordered(): readonly number[] {
    return Array.from(this.#supports.keys()).filter((matrix) => !this.#orders.has(matrix));
  }

  /** To be called when entries were handed over. */
  changed(matrix: number): void {
    this.#orders.delete(matrix);
  }

  /** Finds the order in which an adapter has a matrix' entries, so that a checkpoint only copies. */
  order(matrix: number): Uint32Array | null {
    const known = this.#orders.get(matrix);
    if (known !== undefined) return known;
    const order = ascending(this.#supports[matrix]!.indices);
    this.#orders.set(matrix, order);
    return order;
  }

  /** Other entries from now on, all with nothing added. */
  replace(supports: readonly Support[]): void {
    this.#orders.clear();
    const count = supports.reduce((sum, { indices }) => sum + indices.length, 0);
    const all = new Uint32Array(count);
    let at = 0;
    this.#supports = supports.map(({ layer, projection, indices }) => {
      const from = at;
      at += indices.length;
      all.set(indices, from);
      return { layer, projection, indices: all.subarray(from, at), from, to: at };
    });
    this.#indices = all;
    this.#flat = new Float32Array(count);
  }

  begin(modules: readonly SparseModule[]): void {
    this.replace(modules);
    for (const [index, { values }] of modules.entries()) this.#flat.set(values, this.#supports[index]!.from);
  }

  modules(values: Float32Array = this.#flat): readonly SparseDelta[] {
    return this.#supports.map(({ from, to, ...support }) => ({
      ...support,
      values: values.subarray(from, to),
    }));
  }

  *served(): Generator<SparseModule, void, void> {
    for (const [matrix, { layer, projection, indices, from, to }] of this.#supports.entries()) {
      const order = this.order(matrix);
      const own = this.#flat.subarray(from, to);
      const entries =
        order === null
          ? { indices: indices.slice(), values: own.slice() }
          : {
              indices: gathered(indices, order, new Uint32Array(order.length)),
              values: gathered(own, order, new Float32Array(order.length)),
            };
      yield { kind: "sparse", layer, projection, ...entries };
    }
  }

  state(): State {
    const counts = Uint32Array.from(this.#supports, ({ from, to }) => to - from);
    return { values: {}, arrays: { indices: this.#indices, counts } };
  }

  restore({ arrays: { indices, counts } }: State): void {
    const areOwn =
      indices instanceof Uint32Array &&
      counts instanceof Uint32Array &&
      counts.length === this.#supports.length;
    if (!areOwn || indices.length !== counts.reduce((sum, count) => sum + count, 0)) {
      throw new RangeError("the checkpoint is of other matrices");
    }
    let at = 0;
    this.replace(
      this.#supports.map((support, index) => {
        const from = at;
        at += counts[index]!;
        return { ...support, indices: indices.slice(from, at) };
      }),
    );
  }
}

/** Places by ascending index; null where they lie so already. */
function ascending(indices: Uint32Array): Uint32Array | null {
  if (indices.every((index, at) => at === 0 || index > indices[at - 1]!)) return null;
  // Numbers sort without a comparison function, which is what takes the time: index and place in one, below 2 ** 53.
  const count = indices.length;
  const keys = new Float64Array(count);
  for (let at = 0; at < count; at++) keys[at] = indices[at]! * count + at;
  keys.sort();
  const places = new Uint32Array(count);
  for (let at = 0; at < count; at++) places[at] = keys[at]! % count;
  return places;
}

function gathered<Values extends Uint32Array | Float32Array>(
  from: Values,
  places: Uint32Array,
  out: Values,
): Values {
  for (let at = 0; at < places.length; at++) out[at] = from[places[at]!]!;
  return out;
}
