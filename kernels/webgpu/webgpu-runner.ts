// The WebGPU device: one session, and in the device's memory weights, embeddings, key/value rows and adapter slots.
// Per step token ids, places, rotary rows and small indices go to it, and logits come back. Low-rank adapters only.
// Not reentrant: one call at a time.

import { type AdapterTargets, type DecodedAdapter, modulesOf } from "../adapter.ts";
import { slotLoadCounter } from "../cpu/adapter-bank.ts";
import { bytesPerToken } from "../cpu/kv-arena.ts";
import { indexes, KvFeeds, wantedTokens } from "../cpu/kv-feeds.ts";
import { AdapterError, CotenantError } from "../errors.ts";
import { outputNames } from "../forward-graph.ts";
import { adapterTargets } from "../model-family.ts";
import type {
  DecodeEntry,
  Logits,
  ModelRunner,
  OpenOptions,
  PrefillChunk,
  RunnerStats,
  SequenceId,
} from "../model-runner.ts";
import type { TokenLogits } from "../sampling/ranked-logits.ts";
import type { Feeds } from "../session.ts";
import { SiteAdapter } from "../site-adapter.ts";
import { GpuAdapterBank } from "./gpu-adapter-bank.ts";
import { decodeFeeds, prefillFeeds } from "./gpu-adapter-feeds.ts";
import type { KvBuffers } from "./gpu-kv-moves.ts";
import { type GpuKvSequence, GpuKvStore } from "./gpu-kv-store.ts";
import type { GpuBuffer } from "./gpu-session.ts";
import { type NewTokens, stateFeeds, tokenFeeds } from "./step-feeds.ts";
import { deviceInputs } from "./webgpu-graph.ts";
import type { WebgpuModel } from "./webgpu-model.ts";

type Sequence = { readonly adapterVersion: string | null; readonly kv: GpuKvSequence };

export type WebgpuRunnerOptions = {
  readonly maxRows: number;
  readonly maxContext: number;
  readonly maxKvBytes?: number; // all rows at the whole context unless given
};

export class WebgpuRunner implements ModelRunner {
  readonly maxContext: number;
  readonly maxRows: number;
  readonly #model: WebgpuModel;
  readonly #targets: AdapterTargets;
  readonly #maxKvBytes: number;
  readonly #kv: GpuKvStore;
  readonly #positions: KvFeeds;
  readonly #keyPlaces: GpuBuffer;
  readonly #decodeBanks = new Map<number, GpuAdapterBank>(); // by capacity of the rows that decode together
  readonly #prefillBank: GpuAdapterBank; // of the prompt that is read
  readonly #slotLoadTimes = slotLoadCounter();
  readonly #adapters = new Map<string, SiteAdapter>();
  readonly #sequences = new Map<SequenceId, Sequence>();
  readonly #failure = Promise.withResolvers<never>();

  private constructor(model: WebgpuModel, options: WebgpuRunnerOptions, keyPlaces: GpuBuffer) {
    const { maxRows, maxContext } = options;
    const { config } = model.base;
    this.#model = model;
    this.maxContext = maxContext;
    this.maxRows = maxRows;
    this.#targets = adapterTargets(config);
    this.#maxKvBytes =
      options.maxKvBytes ?? maxRows * Math.ceil(maxContext / 64) * 64 * bytesPerToken(config);
    this.#kv = new GpuKvStore(
      { shape: config, maxRows, maxContext, maxBytes: this.#maxKvBytes },
      model.kvMoves,
    );
    this.#positions = new KvFeeds(config);
    this.#keyPlaces = keyPlaces;
    this.#prefillBank = this.#openBank();
    this.failure.catch(() => {}); // nobody has to listen
  }

  /** Rejected once the device is lost: nothing that was on it comes back. */
  get failure(): Promise<never> {
    return this.#failure.promise;
  }

  /** @throws KvMemoryError `kv_budget_too_small` */
  static async open(model: WebgpuModel, options: WebgpuRunnerOptions): Promise<WebgpuRunner> {
    const places = Float32Array.from(indexes(Math.ceil(options.maxContext / 64) * 64));
    return new WebgpuRunner(model, options, await model.allocator.upload(places));
  }

  /** @throws AdapterError `adapter_kind_not_on_device` */
  addAdapter(version: string, adapter: DecodedAdapter): void {
    const others = new Set(adapter.modules.map(({ kind }) => kind).filter((kind) => kind !== "low-rank"));
    if (others.size > 0) {
      throw new AdapterError(
        "adapter_kind_not_on_device",
        `the adapter has ${[...others].join(", ")} modules, and --device webgpu serves low-rank ones only; serve it with --device cpu, or upload it without them`,
      );
    }
    this.#adapters.set(version, new SiteAdapter({ modules: modulesOf(adapter, "low-rank") }, this.#targets));
  }

  removeAdapter(version: string): void {
    for (const bank of this.#banks) bank.host.release(version, this.#adapters);
    this.#adapters.delete(version);
  }

  hasAdapter(version: string): boolean {
    return this.#adapters.has(version);
  }

  virtualTokens(): number {
    return 0;
  }

  kvBytesOf(tokens: number): number {
    return this.#kv.bytesOf(tokens);
  }

  open(id: SequenceId, { adapterVersion, prefix }: OpenOptions): { cachedTokens: number } {
    if (this.#sequences.size === this.maxRows) throw new RangeError(`all ${this.maxRows} rows are taken`);
    const kv = this.#kv.open(this.#withNextToken(prefix?.tokenIds.length ?? 0));
    this.#sequences.set(id, { adapterVersion, kv });
    return { cachedTokens: 0 };
  }

  isOpen(id: SequenceId): boolean {
    return this.#sequences.has(id);
  }

  close(id: SequenceId): void {
    this.#kv.close(this.#find(id).kv);
    this.#sequences.delete(id);
  }

  prefill(chunk: PrefillChunk): Promise<Logits> {
    return this.#watched(() => this.#prefill(chunk));
  }

  decode(entries: readonly DecodeEntry[]): Promise<Logits> {
    return this.#watched(() => this.#decode(entries));
  }

  async #prefill(chunk: PrefillChunk): Promise<Logits> {
    const { kv: sequence, adapterVersion: version } = this.#find(chunk.sequence);
    const { tokenIds: ids, promptLength } = chunk;
    const count = ids.length;
    const past = sequence.length;
    this.#kv.reserve([sequence], () => Math.max(past + count, this.#withNextToken(promptLength)));
    const kv = await this.#kv.takeOut(sequence);
    const wanted = wantedTokens(chunk.logits, count);
    const runs = [{ position: past, count, length: promptLength }];
    const adapterFeeds = await prefillFeeds(this.#prefillBank, { version, tokens: count }, this.#adapters);
    const outputs = await this.#run({ ids, runs, wanted, kv }, adapterFeeds);
    sequence.length += count;
    const { vocabSize } = this.#model.base.config;
    const data = outputs[outputNames.logits]!.data as Float32Array; // one row where none is wanted
    return { count: wanted.length, vocabSize, data: data.subarray(0, wanted.length * vocabSize) };
  }

  async #decode(entries: readonly DecodeEntry[]): Promise<Logits> {
    const sequences = entries.map(({ sequence }) => this.#find(sequence));
    this.#kv.reserve(
      sequences.map(({ kv }) => kv),
      ({ length }) => length + 1,
    );
    const groups = await this.#kv.groups(sequences.map(({ kv }) => kv));
    for (const [capacity, bank] of this.#decodeBanks) {
      if (groups.every(({ kv }) => kv.capacity !== capacity)) await bank.hold([], this.#adapters);
    }
    const { vocabSize } = this.#model.base.config;
    const found = new Array<TokenLogits>(entries.length);
    for (const { kv, sequences: members } of groups) {
      const places = members.map((member) => sequences.findIndex((sequence) => sequence.kv === member));
      const versions = places.map((entry) => sequences[entry]!.adapterVersion);
      const tokens: NewTokens = {
        ids: places.map((entry) => entries[entry]!.tokenId),
        runs: members.map(({ length }) => ({ position: length, count: 1, length: length + 1 })),
        wanted: indexes(members.length),
        kv,
      };
      const feeds = await decodeFeeds(this.#decodeBank(kv), versions, this.#adapters);
      const logits = await this.#model.logits.place(members.length);
      await this.#run(tokens, feeds, logits);
      for (const member of members) member.length++;
      const wanted = places.map((entry) => entries[entry]!.candidates ?? null);
      for (const [row, result] of (await this.#resultsOf(logits, wanted)).entries()) {
        found[places[row]!] = result;
      }
    }
    const whole = found.filter((row) => row instanceof Float32Array);
    const data = new Float32Array(whole.length * vocabSize);
    for (const [row, logits] of whole.entries()) data.set(logits, row * vocabSize);
    const ranked = found.map((row) => (row instanceof Float32Array ? null : row));
    return { count: entries.length, vocabSize, data, ranked };
  }

  /** @param wanted how many of the most likely tokens of each row; null = all logits */
  async #resultsOf(logits: Feeds[string], wanted: readonly (number | null)[]): Promise<TokenLogits[]> {
    const { logits: onDevice, base } = this.#model;
    const { vocabSize } = base.config;
    const most = Math.max(0, ...wanted.map((count) => count ?? 0));
    const ranked = most === 0 ? [] : await onDevice.ranked(logits, most);
    const whole = indexes(wanted.length).filter((row) => wanted[row] === null);
    const rows = whole.length === 0 ? new Float32Array(0) : await onDevice.rows(logits, whole);
    return wanted.map((count, row) => {
      const place = whole.indexOf(row);
      return count === null ? rows.subarray(place * vocabSize, (place + 1) * vocabSize) : ranked[row]!;
    });
  }

  stats(): RunnerStats {
    const banks = this.#banks.map(({ host }) => host);
    return {
      sessionMs: this.#model.bus.runMs,
      busBytes: this.#model.bus.bytes,
      kvTokensUsed: this.#kv.usedTokens,
      kvBytesUsed: this.#kv.usedBytes,
      kvBytesCapacity: this.#maxKvBytes,
      prefixQueriedTokens: 0,
      prefixHitTokens: 0,
      prefixBytes: 0,
      residentAdapters: [...new Set(banks.flatMap(({ versions }) => versions))],
      slotLoads: banks.reduce((sum, { loads }) => sum + loads, 0),
      slotLoadTimes: this.#slotLoadTimes.durations,
      slotEvictions: banks.reduce((sum, { unloads }) => sum + unloads, 0),
    };
  }

  async dispose(): Promise<void> {
    this.#kv.dispose();
    for (const bank of this.#banks) bank.dispose();
    this.#keyPlaces.dispose();
    await this.#model.close();
  }

  /** A failed run may be one that asked for too much, or the first of a device that is gone. */
  async #watched<Result>(run: () => Promise<Result>): Promise<Result> {
    try {
      return await run();
    } catch (error) {
      if (error instanceof RangeError || (await this.#model.allocator.isAlive())) throw error;
      const lost = new CotenantError(
        "device_lost",
        "the WebGPU device was lost with everything on it; look for its driver in the system's log. The engine starts anew",
        { cause: error },
      );
      this.#failure.reject(lost);
      throw lost;
    }
  }

  get #banks(): GpuAdapterBank[] {
    return [...this.#decodeBanks.values(), this.#prefillBank];
  }

  #decodeBank({ capacity }: KvBuffers): GpuAdapterBank {
    const bank = this.#decodeBanks.get(capacity) ?? this.#openBank();
    this.#decodeBanks.set(capacity, bank);
    return bank;
  }

  #openBank(): GpuAdapterBank {
    const { allocator, slotWriters: writers, zeros } = this.#model;
    return new GpuAdapterBank({
      targets: this.#targets,
      allocator,
      writers,
      zeros,
      loadTimes: this.#slotLoadTimes,
    });
  }

  /** @returns the run's outputs; its logits only where they are given no place on the device */
  async #run(tokens: NewTokens, adapterFeeds: Feeds, logits?: Feeds[string]): Promise<Feeds> {
    const { base, embeddings, session } = this.#model;
    const { vocabSize, hiddenSize } = base.config;
    const state = stateFeeds(tokens.kv, tokens.runs.length, base.config);
    const feeds: Feeds = {
      ...adapterFeeds,
      ...this.#positions.rotary(tokens.runs),
      ...tokenFeeds(tokens, base.config),
      ...state.inputs,
      [deviceInputs.embeddings]: embeddings.view([vocabSize, hiddenSize]),
      [deviceInputs.keyPlaces]: this.#keyPlaces.view([1, 1, 1, tokens.kv.capacity]),
    };
    const into = logits === undefined ? state.outputs : { ...state.outputs, [outputNames.logits]: logits };
    return session.run(feeds, into);
  }

  #withNextToken(tokens: number): number {
    return Math.min(tokens + 1, Math.max(tokens, this.maxContext));
  }

  #find(id: SequenceId): Sequence {
    const sequence = this.#sequences.get(id);
    if (sequence === undefined) throw new RangeError(`sequence ${id} is not open`);
    return sequence;
  }
}
