// The adapters that a runner knows: which are on the device, which of them the rows that decode have in slots, and
// what of them a run is fed. An adapter crosses the bus when it is first used, and stays while a sequence is open that
// uses it.

import { type AdapterTargets, type DecodedAdapter, modulesOf } from "../adapter.ts";
import { adapterSites } from "../adapter-sites.ts";
import { rankBlock, slotLoadCounter } from "../cpu/adapter-bank.ts";
import { assignSlots } from "../cpu/slot-sharing.ts";
import { KvMemoryError } from "../errors.ts";
import type { RunnerStats } from "../model-runner.ts";
import type { Feeds } from "../session.ts";
import { SiteAdapter } from "../site-adapter.ts";
import { GpuAdapter } from "./gpu-adapter.ts";
import { GpuAdapterBank } from "./gpu-adapter-bank.ts";
import { adapterFeeds, promptRows, promptSource } from "./gpu-adapter-feeds.ts";
import type { DeviceFeature, DeviceFeatures } from "./gpu-adapter-graph.ts";
import { type BusCounter, type GpuAllocator, type GpuBuffer, GpuMemoryError } from "./gpu-session.ts";
import { mostTokensOf, type SlotAdapter, type SlotKind, SlotKinds } from "./gpu-slot-kinds.ts";
import { SlotWriter } from "./gpu-slot-writer.ts";
import { SlotUploads } from "./slot-uploads.ts";

/** Adapters that nobody uses and that stay: the next request of the same one finds it on the device. */
const idleAdapters = 8;

export type GpuAdaptersOptions = {
  readonly targets: AdapterTargets;
  readonly allocator: GpuAllocator;
  readonly bus: BusCounter;
  readonly openVersions: () => Iterable<string | null>; // of the sequences that are open
};

export type DecodeRow = { readonly version: string | null; readonly tokenId: number };

export type PromptTokens = {
  readonly version: string | null;
  readonly ids: readonly (number | null)[]; // null where the embedding comes from elsewhere
  readonly wanted: number; // tokens whose logits are wanted
};

export class GpuAdapters {
  readonly #options: GpuAdaptersOptions;
  readonly #kinds: SlotKinds;
  readonly #writers: ReadonlyMap<SlotKind, SlotWriter>;
  readonly #uploads: SlotUploads;
  readonly #zeros: GpuBuffer;
  readonly #base: GpuAdapter;
  readonly #known = new Map<string, SlotAdapter>();
  readonly #resident = new Map<string, GpuAdapter>(); // least recently used first
  readonly #banks = new Map<number, GpuAdapterBank>(); // by capacity of the rows that decode together
  readonly #features = new Set<DeviceFeature>();
  readonly #loadTimes = slotLoadCounter();
  #uploaded = 0;
  #evictions = 0;

  private constructor(
    options: GpuAdaptersOptions,
    kinds: SlotKinds,
    parts: {
      readonly zeros: GpuBuffer;
      readonly base: GpuAdapter;
      readonly uploads: SlotUploads;
    },
  ) {
    this.#options = options;
    this.#kinds = kinds;
    this.#writers = new Map(kinds.all.map((kind) => [kind, new SlotWriter(kind, options.bus)]));
    this.#uploads = parts.uploads;
    this.#zeros = parts.zeros;
    this.#base = parts.base;
  }

  static async open(options: GpuAdaptersOptions): Promise<GpuAdapters> {
    const { targets, allocator, bus } = options;
    const kinds = new SlotKinds(targets);
    const widest = Math.max(...adapterSites(targets).map(({ in: width, out }) => Math.max(width, out)));
    const zeros = await allocator.zeros(widest * rankBlock);
    const none: SlotAdapter = { sites: new SiteAdapter({ modules: [] }, targets), embeddings: [] };
    const uploads = new SlotUploads(allocator, bus);
    const base = await GpuAdapter.uploadBase(none, kinds.all, uploads);
    return new GpuAdapters(options, kinds, { zeros, base, uploads });
  }

  /** What the graph must offer for all adapters so far. */
  get features(): DeviceFeatures {
    return this.#features;
  }

  add(version: string, adapter: DecodedAdapter): void {
    const sites = new SiteAdapter(adapter, this.#options.targets);
    const embeddings = modulesOf(adapter, "embedding");
    for (const feature of sites.features) this.#features.add(feature);
    if (embeddings.length > 0) this.#features.add("embedding");
    this.#known.set(version, { sites, embeddings });
  }

  remove(version: string): void {
    for (const { held } of this.#banks.values()) held.release(version, this.#resident);
    this.#evict(version);
    this.#known.delete(version);
  }

  has(version: string): boolean {
    return this.#known.has(version);
  }

  /** @param features of the graph that runs */
  async promptFeeds({ version, ids, wanted }: PromptTokens, features: DeviceFeatures): Promise<Feeds> {
    const adapter = await this.#use(version);
    const head = Array<null>(Math.max(1, wanted)).fill(null); // the device computes one row at least
    return adapterFeeds(
      { tokens: promptRows(adapter, ids), head: promptRows(adapter, head), source: promptSource(adapter) },
      features,
      this.#feedParts,
    );
  }

  /** Tokens of a prompt that one run may have. */
  mostTokens(version: string | null): number {
    const adapter = version === null ? undefined : this.#known.get(version);
    return adapter === undefined ? Number.MAX_SAFE_INTEGER : mostTokensOf(adapter, this.#kinds);
  }

  /** @param capacity of the rows, which all decode together */
  async decodeFeeds(capacity: number, rows: readonly DecodeRow[], features: DeviceFeatures): Promise<Feeds> {
    const versions = rows.map(({ version }) => version);
    const adapters: (GpuAdapter | null)[] = [];
    for (const version of versions) adapters.push(await this.#use(version));
    const { readers, rowsPerSlot } = assignSlots(versions);
    const bank = this.#bank(capacity);
    const before = bank.held.loads;
    const startMs = performance.now();
    const copies = readers.map(({ copy }) => copy);
    await this.#withMemory(() => bank.hold(copies, this.#resident));
    this.#timed(startMs, bank.held.loads - before);
    const stepRows = rows.map(({ tokenId }, row) => ({ tokenId, adapter: adapters[row]! }));
    const step = { rows: stepRows, readers, rowsPerSlot, isPrompt: false };
    return adapterFeeds({ tokens: step, head: step, source: bank }, features, this.#feedParts);
  }

  /** Empties the slots of rows that do not decode now. */
  async keepOnly(capacities: ReadonlySet<number>): Promise<void> {
    for (const [capacity, bank] of this.#banks) {
      if (!capacities.has(capacity)) await bank.hold([], this.#resident);
    }
  }

  get stats(): Pick<RunnerStats, "residentAdapters" | "slotLoads" | "slotLoadTimes" | "slotEvictions"> {
    const held = [...this.#banks.values()].map((bank) => bank.held);
    return {
      residentAdapters: [...this.#resident.keys()],
      slotLoads: held.reduce((sum, { loads }) => sum + loads, this.#uploaded),
      slotLoadTimes: this.#loadTimes.durations,
      slotEvictions: held.reduce((sum, { unloads }) => sum + unloads, this.#evictions),
    };
  }

  async dispose(): Promise<void> {
    for (const bank of this.#banks.values()) bank.dispose();
    for (const adapter of this.#resident.values()) adapter.dispose();
    this.#base.dispose();
    this.#zeros.dispose();
    for (const writer of this.#writers.values()) await writer.close();
    await this.#uploads.close();
  }

  get #feedParts() {
    return { kinds: this.#kinds, base: this.#base, zeros: this.#zeros };
  }

  /** Brings an adapter to the device where it is not there yet. */
  async #use(version: string | null): Promise<GpuAdapter | null> {
    if (version === null) return null;
    const adapter = this.#resident.get(version) ?? (await this.#upload(version));
    this.#resident.delete(version);
    this.#resident.set(version, adapter);
    return adapter;
  }

  async #upload(version: string): Promise<GpuAdapter> {
    const known = this.#known.get(version);
    if (known === undefined) throw new RangeError(`adapter version ${version} is unknown to the device`);
    this.#dropIdle(idleAdapters);
    const startMs = performance.now();
    const uploaded = await this.#withMemory(() => GpuAdapter.upload(known, this.#kinds.all, this.#uploads));
    this.#uploaded++;
    this.#timed(startMs, 1);
    return uploaded;
  }

  /**
   * Where the device has no memory left, tries again without the adapters that nobody uses.
   * @throws KvMemoryError `kv_memory_exhausted`
   */
  async #withMemory<Result>(run: () => Promise<Result>): Promise<Result> {
    try {
      return await run();
    } catch (cause) {
      if (!(cause instanceof GpuMemoryError)) throw cause;
      if (this.#dropIdle(0) > 0) return this.#withMemory(run);
      const message =
        "the device has no memory left for the adapters that are used at once; wait for a sequence to finish, or lower --max-rows or --max-kv-bytes";
      throw new KvMemoryError("kv_memory_exhausted", message, { cause });
    }
  }

  /** @returns how many went */
  #dropIdle(most: number): number {
    const used = new Set(this.#options.openVersions());
    for (const { held } of this.#banks.values()) for (const version of held.versions) used.add(version);
    const idle = [...this.#resident.keys()].filter((version) => !used.has(version));
    const going = idle.slice(0, Math.max(0, idle.length - most));
    for (const version of going) this.#evict(version);
    return going.length;
  }

  #evict(version: string): void {
    const adapter = this.#resident.get(version);
    if (adapter === undefined) return;
    adapter.dispose();
    this.#resident.delete(version);
    this.#evictions++;
  }

  #bank(capacity: number): GpuAdapterBank {
    let bank = this.#banks.get(capacity);
    if (bank === undefined) {
      const { allocator } = this.#options;
      bank = new GpuAdapterBank({ allocator, writers: this.#writers, base: this.#base });
      this.#banks.set(capacity, bank);
    }
    return bank;
  }

  #timed(startMs: number, loads: number): void {
    if (loads > 0) this.#loadTimes.add((performance.now() - startMs) / 1000 / loads, loads);
  }
}
