// The frozen weights on the device, where they go once, layer by layer, when a unit first asks for them. Float32 ones
// are fed as they lie there; quantized ones lie packed, and are widened there into the memory of one layer and one slice
// of the head. Serving's session has a copy of its own: the runtime shares no weights between sessions. Float16 ones are
// no part of a session: those that serve are widened.

import type { PreparedLayout, PreparedMatrix, PreparedVector } from "../prepare/layout.ts";
import type { Feeds } from "../session.ts";
import type { FedLayer, FrozenWeights, HeadRows } from "../training/frozen-weights.ts";
import { weightDims } from "../training/host-weights.ts";
import { type LayerWeight, layerInputs } from "../training/layer-names.ts";
import { PreparedWeights } from "../training/prepared-weights.ts";
import type { SparseDelta, WeightMap } from "../training/sparse-weights.ts";
import type { BusCounter, GpuAllocator, GpuBuffer } from "./gpu-session.ts";
import type { HalfMatrices } from "./half-matrices.ts";
import { GpuChanges } from "./training-changes.ts";
import { disposeRows, GpuMatrices, type StoredRows } from "./training-matrices.ts";

type StoredLayer = {
  readonly matrices: ReadonlyMap<string, StoredRows>;
  readonly vectors: ReadonlyMap<string, GpuBuffer>;
};

/** Float32 values of a layer's matrices, or a slice's, which others take the place of. */
type Widened = { holds: number | null; readonly places: Map<string, GpuBuffer> };

export type GpuWeightsOptions = {
  readonly layout: PreparedLayout;
  readonly dataPath: string;
  readonly places: WeightMap;
  readonly allocator: GpuAllocator;
  readonly bus: BusCounter;
  readonly halves: HalfMatrices;
};

export class GpuWeights implements Omit<FrozenWeights, "keepWidened"> {
  readonly layout: PreparedLayout;
  readonly #host: PreparedWeights;
  readonly #places: WeightMap;
  readonly #allocator: GpuAllocator;
  readonly #matrices: GpuMatrices;
  readonly #changes: GpuChanges;
  readonly #layers = new Map<number, StoredLayer>();
  readonly #head = new Map<number, StoredRows>(); // by first row
  readonly #widenedLayer: Widened = { holds: null, places: new Map() };
  readonly #widenedHead: Widened = { holds: null, places: new Map() };

  constructor({ layout, dataPath, places, allocator, bus, halves }: GpuWeightsOptions) {
    this.layout = layout;
    this.#host = new PreparedWeights(layout, dataPath, 0);
    this.#places = places;
    this.#allocator = allocator;
    this.#matrices = new GpuMatrices(this.#host, { allocator, bus, halves });
    this.#changes = new GpuChanges(bus);
  }

  get finalNorm(): Float32Array {
    return this.#host.finalNorm;
  }

  async layer(index: number, deltas: readonly SparseDelta[]): Promise<FedLayer> {
    const { matrices, vectors } = await this.#storedLayer(index);
    const values = await this.#valuesOf(matrices, index, this.#widenedLayer);
    const feeds: Feeds = {};
    for (const [name, buffer] of [...vectors, ...values] as [LayerWeight, GpuBuffer][]) {
      feeds[layerInputs.weight(name)] = buffer.view(weightDims(this.layout, index, name));
    }
    const restores: (() => Promise<void>)[] = [];
    const restore = async () => {
      try {
        for (const former of restores.toReversed()) await former();
      } catch (error) {
        this.#forgetLayer(index); // it is not the base's
        throw error;
      }
    };
    try {
      for (const { projection, indices, values: added } of deltas) {
        if (indices.length === 0) continue;
        const { matrix, firstRow } = this.#places.placeOf(projection);
        const { rows, columns } = matrices.get(matrix)!;
        const places = Int32Array.from(indices, (at) => firstRow * columns + at);
        const change = { values: values.get(matrix)!, size: rows * columns, places, added };
        restores.push(await this.#changes.add(change));
      }
    } catch (error) {
      this.#forgetLayer(index);
      throw error;
    }
    return { feeds, restore };
  }

  async headRows(firstRow: number, count: number): Promise<HeadRows> {
    const { head } = this.layout;
    let stored = this.#head.get(firstRow);
    if (stored?.rows !== count) {
      if (stored !== undefined) disposeRows(stored);
      this.#head.delete(firstRow);
      this.#widenedHead.holds = null;
      stored = await this.#matrices.store(head, firstRow, count);
      this.#head.set(firstRow, stored);
    }
    const values = await this.#valuesOf(new Map([["head", stored]]), firstRow, this.#widenedHead);
    const row = new Float32Array(head.columns);
    return {
      firstRow,
      count,
      feed: values.get("head")!.view([count, head.columns]),
      row: (index) => {
        this.#host.readRows(head, firstRow + index, row);
        return row;
      },
    };
  }

  async close(): Promise<void> {
    await this.#matrices.close();
    await this.#changes.close();
    await this.#host.close();
    for (const index of this.#layers.keys()) this.#forgetLayer(index);
    for (const stored of this.#head.values()) disposeRows(stored);
    for (const { places } of [this.#widenedLayer, this.#widenedHead]) {
      for (const place of places.values()) place.dispose();
    }
  }

  async #storedLayer(index: number): Promise<StoredLayer> {
    const known = this.#layers.get(index);
    if (known !== undefined) return known;
    const stored = { matrices: new Map<string, StoredRows>(), vectors: new Map<string, GpuBuffer>() };
    const parts: [string, PreparedMatrix | PreparedVector | null][] = Object.entries(
      this.layout.layers[index]!,
    );
    try {
      for (const [name, part] of parts) {
        if (part === null) continue;
        if ("length" in part) stored.vectors.set(name, await this.#allocator.upload(this.#host.vector(part)));
        else stored.matrices.set(name, await this.#matrices.store(part));
      }
    } catch (error) {
      disposeLayer(stored);
      throw error;
    }
    this.#layers.set(index, stored);
    return stored;
  }

  /** Whoever asks for it next has it brought anew. */
  #forgetLayer(index: number): void {
    disposeLayer(this.#layers.get(index)!);
    this.#layers.delete(index);
    this.#widenedLayer.holds = null;
  }

  /** The matrices' float32 values. @param index by which what is widened is known */
  async #valuesOf(
    matrices: ReadonlyMap<string, StoredRows>,
    index: number,
    widened: Widened,
  ): Promise<ReadonlyMap<string, GpuBuffer>> {
    const { places } = widened;
    if (this.layout.head.encoding === "float32")
      return new Map(Array.from(matrices, ([name, { data }]) => [name, data]));
    if (widened.holds === index) return places;
    widened.holds = null; // what fails leaves nothing whole there
    for (const [name, stored] of matrices) {
      // The first that is asked for is the largest: layers are alike, and a slice at the end is shorter.
      const place = places.get(name) ?? (await this.#allocator.zeros(stored.rows * stored.columns));
      places.set(name, place);
      await this.#matrices.widen(stored, place);
    }
    widened.holds = index;
    return places;
  }
}

function disposeLayer({ matrices, vectors }: StoredLayer): void {
  for (const stored of matrices.values()) disposeRows(stored);
  for (const vector of vectors.values()) vector.dispose();
}
