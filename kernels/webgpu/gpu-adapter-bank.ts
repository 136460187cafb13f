// The device slots of rows that decode together: copies of adapters that are on the device already, contiguous by
// kind, so that a step feeds views. Swapping one in is a scatter on the device.

import { slotLoadCounter } from "../cpu/adapter-bank.ts";
import { type BankCopy, HeldCopies, type SlotStore } from "../held-copies.ts";
import { type Exchange, type Slot, SlotPlaces } from "../slot-places.ts";
import type { GpuAdapter, SlotBuffer, SlotLayers } from "./gpu-adapter.ts";
import type { SlotSource } from "./gpu-adapter-feeds.ts";
import type { GpuAllocator } from "./gpu-session.ts";
import type { SlotKind } from "./gpu-slot-kinds.ts";
import type { SlotWriter } from "./gpu-slot-writer.ts";

/** What all banks of a device share. */
export type GpuBankParts = {
  readonly allocator: GpuAllocator;
  readonly writers: ReadonlyMap<SlotKind, SlotWriter>; // of every kind
  readonly base: GpuAdapter;
};

class GpuSlots implements SlotStore<GpuAdapter> {
  readonly kind: SlotKind;
  readonly #parts: GpuBankParts;
  readonly #places = new SlotPlaces();
  readonly #owners = new Map<string, GpuAdapter>();
  #layers: SlotBuffer[][] = []; // empty while nobody has a slot
  #capacity = 0;
  #written: Slot[] = []; // what each slot of the device holds

  constructor(kind: SlotKind, parts: GpuBankParts) {
    this.kind = kind;
    this.#parts = parts;
  }

  get slots(): Slot[] {
    return this.#places.slots;
  }

  get layers(): SlotLayers | null {
    return this.slots.length === 0 ? null : this.#layers;
  }

  exchange({ leaving, coming }: Exchange, adapterOf: (owner: string) => GpuAdapter): void {
    for (const owner of leaving) this.#owners.delete(owner);
    for (const owner of coming) this.#owners.set(owner, adapterOf(owner));
    this.#places.exchange({ leaving, coming }, (owner) => adapterOf(owner).slots(this.kind));
  }

  /** Brings the device's slots up to date. */
  async write(): Promise<void> {
    const { slots } = this;
    if (slots.length === 0) return this.dispose();
    if (slots.every((slot, index) => this.#written[index] === slot)) return;
    await this.#makeRoom();
    const stale = slots.filter((slot, index) => this.#written[index] !== slot).map(({ owner }) => owner);
    for (const owner of new Set(stale)) {
      const own = [...slots.keys()]
        .filter((slot) => slots[slot]!.owner === owner)
        .sort((one, other) => slots[one]!.block - slots[other]!.block);
      await this.#copy(
        this.#owners.get(owner)!,
        own.map((slot) => slot + this.#first),
      );
      for (const slot of own) this.#written[slot] = slots[slot]!;
    }
  }

  dispose(): void {
    for (const { buffer } of this.#layers.flat()) buffer.dispose();
    this.#layers = [];
    this.#capacity = 0;
    this.#written = [];
  }

  get #first(): number {
    return this.kind.hasBase ? 1 : 0;
  }

  async #makeRoom(): Promise<void> {
    const { kind, slots } = this;
    const needed = slots.length + this.#first;
    const sources = slots.map(({ owner }) => this.#owners.get(owner)!.layers(kind)!);
    const widths = sources[0]!.map((arrays, layer) =>
      arrays.map((_, index) => Math.max(...sources.map((source) => source[layer]![index]!.width))),
    );
    const fits = widths.every((arrays, layer) =>
      arrays.every((width, index) => width <= (this.#layers[layer]?.[index]?.width ?? 0)),
    );
    if (fits && needed <= this.#capacity) return;
    this.dispose();
    const capacity = 2 ** Math.ceil(Math.log2(needed));
    try {
      for (const arrays of widths) {
        const made: SlotBuffer[] = [];
        this.#layers.push(made);
        for (const width of arrays) {
          made.push({ buffer: await this.#parts.allocator.zeros(capacity * width), width });
        }
      }
      this.#capacity = capacity;
      if (kind.hasBase) await this.#copy(this.#parts.base, [0]);
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  async #copy(adapter: GpuAdapter, places: readonly number[]): Promise<void> {
    await this.#parts.writers.get(this.kind)!.write({
      from: adapter.layers(this.kind)!,
      to: this.#layers,
      capacity: this.#capacity,
      places,
    });
  }
}

export class GpuAdapterBank implements SlotSource {
  readonly baseSlots = 1;
  readonly held: HeldCopies<GpuAdapter>;
  readonly #slots: ReadonlyMap<SlotKind, GpuSlots>;

  constructor(parts: GpuBankParts) {
    this.#slots = new Map([...parts.writers.keys()].map((kind) => [kind, new GpuSlots(kind, parts)]));
    this.held = new HeldCopies([...this.#slots.values()], slotLoadCounter());
  }

  /** Loads and unloads until exactly the wanted copies are in slots. */
  async hold(wanted: readonly BankCopy[], adapters: ReadonlyMap<string, GpuAdapter>): Promise<void> {
    this.held.hold(wanted, adapters);
    for (const slots of this.#slots.values()) await slots.write();
  }

  slots(kind: SlotKind): readonly Slot[] {
    return this.#slots.get(kind)!.slots;
  }

  layers(kind: SlotKind): SlotLayers | null {
    return this.#slots.get(kind)!.layers;
  }

  dispose(): void {
    for (const slots of this.#slots.values()) slots.dispose();
  }
}
