// One adapter on the device: what it keeps in slots, kind by kind, as it crossed the bus once. A prompt reads it as it
// is; the banks of rows that decode copy it from here.

import type { GpuBuffer } from "./gpu-session.ts";
import type { SlotAdapter, SlotKind } from "./gpu-slot-kinds.ts";
import type { SlotUploads } from "./slot-uploads.ts";

/** Slots of one array of a kind, in one layer. */
export type SlotBuffer = { readonly buffer: GpuBuffer; readonly width: number };
/** By layer, then by array of the kind. */
export type SlotLayers = readonly (readonly SlotBuffer[])[];

export class GpuAdapter {
  readonly adapter: SlotAdapter;
  readonly #slots = new Map<SlotKind, number>();
  readonly #layers = new Map<SlotKind, SlotLayers>();

  private constructor(adapter: SlotAdapter, kinds: readonly SlotKind[]) {
    this.adapter = adapter;
    for (const kind of kinds) this.#slots.set(kind, kind.slotsOf(adapter));
  }

  static async upload(
    adapter: SlotAdapter,
    kinds: readonly SlotKind[],
    uploads: SlotUploads,
  ): Promise<GpuAdapter> {
    const uploaded = new GpuAdapter(adapter, kinds);
    try {
      for (const kind of kinds) {
        if (uploaded.slots(kind) > 0) await uploaded.#upload(kind, uploads);
      }
    } catch (error) {
      uploaded.dispose();
      throw error;
    }
    return uploaded;
  }

  /** What rows without an adapter read of kinds that have no neutral zero. */
  static async uploadBase(
    adapter: SlotAdapter,
    kinds: readonly SlotKind[],
    uploads: SlotUploads,
  ): Promise<GpuAdapter> {
    const base = new GpuAdapter(adapter, kinds);
    for (const kind of kinds) {
      if (!kind.hasBase) continue;
      const arrays = await base.#arrays(kind, 0, uploads);
      base.#layers.set(kind, Array<SlotBuffer[]>(kind.layers).fill(arrays)); // all layers' are alike
    }
    return base;
  }

  /** Slots of a kind that the adapter takes. */
  slots(kind: SlotKind): number {
    return this.#slots.get(kind)!;
  }

  /** @returns null where the adapter has none of the kind */
  layers(kind: SlotKind): SlotLayers | null {
    return this.#layers.get(kind) ?? null;
  }

  dispose(): void {
    for (const { buffer } of new Set([...this.#layers.values()].flat(2))) buffer.dispose();
    this.#layers.clear();
  }

  async #upload(kind: SlotKind, uploads: SlotUploads): Promise<void> {
    const layers: SlotBuffer[][] = [];
    this.#layers.set(kind, layers);
    for (let layer = 0; layer < kind.layers; layer++) layers.push(await this.#arrays(kind, layer, uploads));
  }

  async #arrays(kind: SlotKind, layer: number, uploads: SlotUploads): Promise<SlotBuffer[]> {
    const slots = Math.max(1, this.slots(kind));
    const arrays: SlotBuffer[] = [];
    try {
      for (const [index, data] of kind.contents(this.adapter, layer).entries()) {
        const array = kind.arrays[index]!;
        const buffer = await uploads.upload(array, data, slots);
        arrays.push({ buffer, width: array.varies ? data.length / slots : array.width });
      }
      return arrays;
    } catch (error) {
      for (const { buffer } of arrays) buffer.dispose();
      throw error;
    }
  }
}
