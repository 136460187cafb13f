// The device slots of WebGPU: what kernels/cpu/adapter-bank.ts decides, mirrored in buffers of the device. A slot
// crosses the bus once, when it is written; a step feeds views.

import type { AdapterTargets } from "../adapter.ts";
import { adapterInputs } from "../adapter-graph.ts";
import { type AdapterSite, adapterSites, servedSites } from "../adapter-sites.ts";
import { AdapterBank, type BankCopy, rankBlock } from "../cpu/adapter-bank.ts";
import type { DurationCounter } from "../durations.ts";
import { type Feeds, floatTensor } from "../session.ts";
import type { SiteAdapter } from "../site-adapter.ts";
import { RowWriter } from "./gpu-copies.ts";
import type { BusCounter, GpuAllocator, GpuBuffer } from "./gpu-session.ts";

type SiteBuffers = { readonly capacity: number; readonly a: GpuBuffer[]; readonly b: GpuBuffer[] }; // per layer
type HostSite = AdapterBank["sites"][number];

const leastSlots = 8;

/** Writes slots of any bank: one session for each site, over all layers. */
export class SlotWriters {
  readonly #writers: ReadonlyMap<string, RowWriter>;

  private constructor(writers: ReadonlyMap<string, RowWriter>) {
    this.#writers = writers;
  }

  static async open(targets: AdapterTargets, bus: BusCounter): Promise<SlotWriters> {
    const writers = new Map<string, RowWriter>();
    for (const { name, layers, in: width, out } of layerSites(targets)) {
      const widths = Array.from({ length: layers }, () => [width * rankBlock, out * rankBlock]).flat();
      writers.set(name, await RowWriter.open(widths, bus));
    }
    return new SlotWriters(writers);
  }

  of({ name }: AdapterSite): RowWriter {
    return this.#writers.get(name)!;
  }

  async close(): Promise<void> {
    for (const writer of this.#writers.values()) await writer.close();
  }
}

export type GpuAdapterBankOptions = {
  readonly targets: AdapterTargets;
  readonly allocator: GpuAllocator;
  readonly writers: SlotWriters;
  readonly zeros: GpuBuffer; // at least the largest slot of any site
  readonly loadTimes: DurationCounter; // of several banks together
};

export class GpuAdapterBank {
  readonly host: AdapterBank;
  readonly #options: GpuAdapterBankOptions;
  readonly sites: readonly HostSite[]; // all but the head's
  readonly #buffers = new Map<HostSite, SiteBuffers>();
  readonly #written = new Map<HostSite, HostSite["slots"][number][]>(); // what each slot of the device holds

  constructor(options: GpuAdapterBankOptions) {
    this.#options = options;
    this.host = new AdapterBank(options.targets, options.loadTimes);
    this.sites = this.host.sites.filter(({ site }) => site.name !== "head");
  }

  /** Loads and unloads until exactly the wanted copies are in slots. */
  async hold(wanted: readonly BankCopy[], adapters: ReadonlyMap<string, SiteAdapter>): Promise<void> {
    this.host.hold(wanted, adapters);
    for (const site of this.sites) await this.#upload(site);
  }

  /** Views of a site's first slots; for none, of one that is zero: what a real one held before may be infinite. */
  slots(host: HostSite, used: number): Feeds {
    const { site } = host;
    const feeds: Feeds = {};
    const buffers = this.#buffers.get(host)!;
    for (let layer = 0; layer < site.layers; layer++) {
      const [a, b] =
        used === 0 ? [this.#options.zeros, this.#options.zeros] : [buffers.a[layer]!, buffers.b[layer]!];
      const slots = Math.max(1, used);
      feeds[adapterInputs.a(layer, site.name)] = a.view([slots, 1, site.in, rankBlock]);
      feeds[adapterInputs.b(layer, site.name)] = b.view([slots, 1, rankBlock, site.out]);
    }
    return feeds;
  }

  dispose(): void {
    for (const host of this.sites) this.#release(host);
  }

  async #upload(host: HostSite): Promise<void> {
    const { slots, site } = host;
    const buffers = await this.#withRoom(host);
    const written = this.#written.get(host)!;
    const places = [...slots.keys()].filter((slot) => written[slot] !== slots[slot]);
    if (places.length === 0) return;
    const pairs = Array.from({ length: site.layers }, (_, layer) => {
      const { a, b } = host.layer(layer);
      const rows = places.length;
      const source = (data: Float32Array) => floatTensor(data, [rows, data.length / rows]);
      const target = (buffer: GpuBuffer, width: number) => buffer.view([buffers.capacity, width * rankBlock]);
      return [
        { target: target(buffers.a[layer]!, site.in), source: source(ranksLast(a, places, site.in)) },
        { target: target(buffers.b[layer]!, site.out), source: source(chosen(b, places, site.out)) },
      ];
    }).flat();
    await this.#options.writers.of(site).write(pairs, places);
    for (const slot of places) written[slot] = slots[slot]!;
  }

  async #withRoom(host: HostSite): Promise<SiteBuffers> {
    const known = this.#buffers.get(host);
    if (known !== undefined && known.capacity >= host.slots.length) return known;
    this.#release(host);
    const { site } = host;
    const capacity = Math.max(leastSlots, 2 ** Math.ceil(Math.log2(Math.max(1, host.slots.length))));
    const made: SiteBuffers = { capacity, a: [], b: [] };
    try {
      for (let layer = 0; layer < site.layers; layer++) {
        made.a.push(await this.#options.allocator.zeros(capacity * rankBlock * site.in));
        made.b.push(await this.#options.allocator.zeros(capacity * rankBlock * site.out));
      }
    } catch (error) {
      for (const buffer of [...made.a, ...made.b]) buffer.dispose();
      throw error;
    }
    this.#buffers.set(host, made);
    return made;
  }

  #release(host: HostSite): void {
    const buffers = this.#buffers.get(host);
    for (const buffer of [...(buffers?.a ?? []), ...(buffers?.b ?? [])]) buffer.dispose();
    this.#buffers.delete(host);
    this.#written.set(host, []);
  }
}

/** The sites of a graph without features. */
function layerSites(targets: AdapterTargets): AdapterSite[] {
  return servedSites(adapterSites(targets), new Set());
}

/** Slots [rankBlock, width] of some places, one after the other. */
function chosen(slots: Float32Array, places: readonly number[], width: number): Float32Array {
  const size = rankBlock * width;
  const out = new Float32Array(places.length * size);
  for (const [index, place] of places.entries()) {
    out.set(slots.subarray(place * size, (place + 1) * size), index * size);
  }
  return out;
}

/** The same, each as [width, rankBlock]. */
function ranksLast(slots: Float32Array, places: readonly number[], width: number): Float32Array {
  const size = rankBlock * width;
  const out = new Float32Array(places.length * size);
  for (const [index, place] of places.entries()) {
    for (let rank = 0; rank < rankBlock; rank++) {
      const row = slots.subarray(place * size + rank * width, place * size + (rank + 1) * width);
      for (let column = 0; column < width; column++) {
        out[index * size + column * rankBlock + rank] = row[column]!;
      }
    }
  }
  return out;
}
