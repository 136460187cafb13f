// The WebGPU device: one session, and in the device's memory weights, embeddings, key/value rows and adapter slots.
// Per step token ids, places, rotary rows and small indices go to it, and logits come back. Not reentrant: one call at
// a time.

import type { DecodedAdapter } from "../adapter.ts";
import { bytesPerToken } from "../cpu/kv-arena.ts";
import { indexes, KvFeeds, wantedTokens } from "../cpu/kv-feeds.ts";
import { prefixBlockTokens } from "../cpu/prefix-cache.ts";
import { lengthMatters } from "../cpu/prefix-scaling.ts";
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
import type { TokenLogits } from "../sampling/logits-query.ts";
import { type Feeds, floatTensor } from "../session.ts";
import { deviceFailure } from "./device-failure.ts";
import { GpuAdapters } from "./gpu-adapters.ts";
import { type GpuKvSequence, GpuKvStore } from "./gpu-kv-store.ts";
import { cachedTokens, GpuPrefixes, type PrefixUse } from "./gpu-prefixes.ts";
import type { GpuBuffer } from "./gpu-session.ts";
import { GpuVirtualTokens } from "./gpu-virtual-tokens.ts";
import { halfFeeds } from "./half-matrices.ts";
import { promptPieces } from "./prompt-pieces.ts";
import { ChunkResults, DecodeResults } from "./run-results.ts";
import { type NewTokens, stateFeeds, tokenFeeds } from "./step-feeds.ts";
import { deviceInputs } from "./webgpu-graph.ts";
import type { WebgpuModel } from "./webgpu-model.ts";

/** Tokens of one sequence, as they enter the graph. */
type Chunk = Pick<NewTokens, "ids" | "wanted" | "kv"> & {
  readonly hidden: Float32Array | null; // of tokens that have no id, then rows of this
  readonly length: number; // of the prompt, virtual tokens included
  readonly results: ChunkResults;
};

type Sequence = {
  readonly adapterVersion: string | null;
  readonly kv: GpuKvSequence;
  readonly prefix: PrefixUse;
};

export type WebgpuRunnerOptions = {
  readonly maxRows: number;
  readonly maxContext: number;
  readonly maxKvBytes?: number; // all rows at the whole context unless given
  readonly maxPrefixBytes?: number; // none unless given
};

type RunnerParts = {
  readonly sequences: Map<SequenceId, Sequence>;
  readonly keyPlaces: GpuBuffer;
  readonly adapters: GpuAdapters;
};

export class WebgpuRunner implements ModelRunner {
  readonly maxContext: number;
  readonly maxRows: number;
  readonly #model: WebgpuModel;
  readonly #maxKvBytes: number;
  readonly #kv: GpuKvStore;
  readonly #positions: KvFeeds;
  readonly #keyPlaces: GpuBuffer;
  readonly #weights: Feeds; // those that are not part of the session
  readonly #adapters: GpuAdapters;
  readonly #virtualTokens: GpuVirtualTokens;
  readonly #prefixes: GpuPrefixes;
  readonly #sequences: Map<SequenceId, Sequence>;
  readonly #failure = Promise.withResolvers<never>();

  private constructor(model: WebgpuModel, options: WebgpuRunnerOptions, parts: RunnerParts) {
    const { maxRows, maxContext } = options;
    const { config } = model.base;
    this.#model = model;
    this.maxContext = maxContext;
    this.maxRows = maxRows;
    this.#maxKvBytes =
      options.maxKvBytes ?? maxRows * Math.ceil(maxContext / 64) * 64 * bytesPerToken(config);
    this.#kv = new GpuKvStore(
      { shape: config, maxRows, maxContext, maxBytes: this.#maxKvBytes },
      model.kvMoves,
    );
    this.#positions = new KvFeeds(config);
    this.#keyPlaces = parts.keyPlaces;
    this.#weights = halfFeeds(model.base.layout, model.halves);
    this.#adapters = parts.adapters;
    this.#sequences = parts.sequences;
    this.#virtualTokens = new GpuVirtualTokens({
      shape: config,
      spans: model.kvSpans,
      chunkTokens: prefixBlockTokens,
    });
    this.#prefixes = new GpuPrefixes({
      maxBytes: options.maxPrefixBytes ?? 0,
      blockBytes: prefixBlockTokens * bytesPerToken(config),
      spans: model.kvSpans,
    });
    this.failure.catch(() => {}); // nobody has to listen
  }

  /** Rejected once the device is lost or has to be opened anew: nothing that was on it comes back. */
  get failure(): Promise<never> {
    return this.#failure.promise;
  }

  /** @throws KvMemoryError `kv_budget_too_small` */
  static async open(model: WebgpuModel, options: WebgpuRunnerOptions): Promise<WebgpuRunner> {
    const places = Float32Array.from(indexes(Math.ceil(options.maxContext / 64) * 64));
    const sequences = new Map<SequenceId, Sequence>();
    const { allocator, bus, base } = model;
    return new WebgpuRunner(model, options, {
      sequences,
      keyPlaces: await allocator.upload(places),
      adapters: await GpuAdapters.open({
        targets: adapterTargets(base.config),
        allocator,
        bus,
        openVersions: () => [...sequences.values()].map(({ adapterVersion }) => adapterVersion),
      }),
    });
  }

  addAdapter(version: string, adapter: DecodedAdapter): void {
    this.#adapters.add(version, adapter);
    this.#virtualTokens.add(version, adapter);
  }

  removeAdapter(version: string): void {
    this.#adapters.remove(version);
    this.#virtualTokens.remove(version);
    this.#prefixes.dropVersion(version);
  }

  hasAdapter(version: string): boolean {
    return this.#adapters.has(version);
  }

  virtualTokens(adapterVersion: string | null): number {
    return this.#virtualTokens.count(adapterVersion);
  }

  kvBytesOf(tokens: number): number {
    return this.#kv.bytesOf(tokens);
  }

  open(id: SequenceId, { adapterVersion, prefix }: OpenOptions): { cachedTokens: number } {
    if (this.#sequences.size === this.maxRows) throw new RangeError(`all ${this.maxRows} rows are taken`);
    const promptLength = this.virtualTokens(adapterVersion) + (prefix?.tokenIds.length ?? 0);
    const kv = this.#kv.open(this.#withNextToken(promptLength));
    const isShared = prefix !== null && !this.#lengthMatters(promptLength);
    const root = { scope: prefix?.scope ?? "", adapterVersion };
    const use = this.#prefixes.open(root, isShared ? prefix.tokenIds : null);
    this.#sequences.set(id, { adapterVersion, kv, prefix: use });
    return { cachedTokens: cachedTokens(use) };
  }

  isOpen(id: SequenceId): boolean {
    return this.#sequences.has(id);
  }

  close(id: SequenceId): void {
    const { kv, prefix } = this.#find(id);
    this.#kv.close(kv);
    this.#prefixes.close(prefix);
    this.#sequences.delete(id);
  }

  prefill(chunk: PrefillChunk): Promise<Logits> {
    return this.watched(() => this.#prefill(chunk));
  }

  decode(entries: readonly DecodeEntry[]): Promise<Logits> {
    return this.watched(() => this.#decode(entries));
  }

  async #prefill(chunk: PrefillChunk): Promise<Logits> {
    const sequence = this.#find(chunk.sequence);
    const { kv: place, adapterVersion: version, prefix } = sequence;
    const { tokenIds } = chunk;
    const virtual = this.virtualTokens(version);
    const length = virtual + chunk.promptLength;
    const position = Math.max(place.length, virtual) + cachedTokens(prefix);
    this.#kv.reserve([place], () => Math.max(position + tokenIds.length, this.#withNextToken(length)));
    const wanted = wantedTokens(chunk.logits, tokenIds.length);
    const results = await ChunkResults.begin(this.#model.logits, {
      count: wanted.length,
      query: chunk.query ?? (() => null),
      blend: chunk.blend ?? null,
    });
    const kv = await this.#kv.takeOut(place);
    if (place.length < virtual) {
      const compute = async (hidden: Float32Array) => {
        const ids = indexes(hidden.length / this.#model.base.config.hiddenSize);
        await this.#runChunk(sequence, { ids, hidden, length, wanted: [], results, kv });
      };
      await this.#virtualTokens.place(version!, { sequence: place, kv, compute });
    }
    const cached = await this.#prefixes.copyIn(prefix, kv, place.length);
    place.length += cached;
    for (const piece of promptPieces({ ids: tokenIds, wanted }, this.#adapters.mostTokens(version))) {
      await this.#runChunk(sequence, { ...piece, hidden: null, length, results, kv });
    }
    const { rows, divergences } = await results.finish();
    if (!this.#lengthMatters(length)) {
      const promptOffset = position - virtual;
      await this.#prefixes.keep(prefix, { tokenIds, promptOffset, kv, first: position });
    }
    return { ...this.#gathered(rows), divergences, isBlended: chunk.blend != null };
  }

  async #runChunk({ kv: sequence, adapterVersion: version }: Sequence, chunk: Chunk): Promise<void> {
    const { ids, hidden, length, wanted, results, kv } = chunk;
    const { session, base } = this.#model;
    const { hiddenSize } = base.config;
    await session.offer(this.#adapters.features);
    const runs = [{ position: sequence.length, count: ids.length, length }];
    const prompt = { version, ids: hidden === null ? ids : ids.map(() => null), wanted: wanted.length };
    const adapterFeeds = await this.#adapters.promptFeeds(prompt, session.features);
    const table = hidden === null ? {} : { table: floatTensor(hidden, [ids.length, hiddenSize]) };
    const tokens = { ids, runs, wanted, kv, ...table };
    const logits = await this.#model.logits.place(Math.max(1, wanted.length)); // one is computed where none is wanted
    await this.#run(tokens, adapterFeeds, logits);
    sequence.length += ids.length;
    if (wanted.length > 0) await results.add(logits);
  }

  async #decode(entries: readonly DecodeEntry[]): Promise<Logits> {
    const sequences = entries.map(({ sequence }) => this.#find(sequence));
    this.#kv.reserve(
      sequences.map(({ kv }) => kv),
      ({ length }) => length + 1,
    );
    const groups = await this.#kv.groups(sequences.map(({ kv }) => kv));
    await this.#adapters.keepOnly(new Set(groups.map(({ kv }) => kv.capacity)));
    const { session } = this.#model;
    await session.offer(this.#adapters.features);
    const results = await DecodeResults.begin(this.#model.logits, entries);
    for (const { kv, sequences: members } of groups) {
      const places = members.map((member) => sequences.findIndex((sequence) => sequence.kv === member));
      const rows = places.map((entry) => ({
        version: sequences[entry]!.adapterVersion,
        tokenId: entries[entry]!.tokenId,
      }));
      const tokens: NewTokens = {
        ids: rows.map(({ tokenId }) => tokenId),
        runs: members.map(({ length }) => ({ position: length, count: 1, length: length + 1 })),
        wanted: indexes(members.length),
        kv,
      };
      const feeds = await this.#adapters.decodeFeeds(kv.capacity, rows, session.features);
      const logits = await this.#model.logits.place(members.length);
      await this.#run(tokens, feeds, logits);
      for (const member of members) member.length++;
      await results.add(logits, places);
    }
    return { ...this.#gathered(await results.finish()), isBlended: results.isBlended };
  }

  #gathered(found: readonly TokenLogits[]): Logits {
    const { vocabSize } = this.#model.base.config;
    const whole = found.filter((row) => row instanceof Float32Array);
    const data = new Float32Array(whole.length * vocabSize);
    for (const [row, logits] of whole.entries()) data.set(logits, row * vocabSize);
    const known = found.map((row) => (row instanceof Float32Array ? null : row));
    return { count: found.length, vocabSize, data, known };
  }

  stats(): RunnerStats {
    return {
      ...this.#adapters.stats,
      ...this.#prefixes.stats,
      sessionMs: this.#model.bus.runMs,
      busBytes: this.#model.bus.bytes,
      kvTokensUsed: this.#kv.usedTokens,
      kvBytesUsed: this.#kv.usedBytes,
      kvBytesCapacity: this.#maxKvBytes,
    };
  }

  async dispose(): Promise<void> {
    this.#kv.dispose();
    this.#prefixes.dispose();
    this.#virtualTokens.dispose();
    await this.#adapters.dispose();
    this.#keyPlaces.dispose();
    await this.#model.close();
  }

  /** A failed run may be one that asked for too much, or the first of a device that is gone. */
  async watched<Result>(run: () => Promise<Result>): Promise<Result> {
    try {
      return await run();
    } catch (error) {
      const failure = await deviceFailure(error, this.#model.allocator);
      if (failure === null) throw error;
      this.#failure.reject(failure);
      throw failure;
    }
  }

  async #run(tokens: NewTokens, adapterFeeds: Feeds, logits: Feeds[string]): Promise<void> {
    const { base, embeddings, session } = this.#model;
    const { vocabSize, hiddenSize } = base.config;
    const state = stateFeeds(tokens.kv, tokens.runs.length, base.config);
    const feeds: Feeds = {
      ...adapterFeeds,
      ...this.#positions.rotary(tokens.runs),
      ...tokenFeeds(tokens, base.config),
      ...state.inputs,
      ...this.#weights,
      [deviceInputs.embeddings]: tokens.table ?? embeddings.view([vocabSize, hiddenSize]),
      [deviceInputs.keyPlaces]: this.#keyPlaces.view([1, 1, 1, tokens.kv.capacity]),
    };
    await session.run(feeds, { ...state.outputs, [outputNames.logits]: logits });
  }

  #withNextToken(tokens: number): number {
    return Math.min(tokens + 1, Math.max(tokens, this.maxContext));
  }

  #lengthMatters(promptLength: number): boolean {
    return lengthMatters(this.#model.base.config.rotaries, promptLength);
  }

  #find(id: SequenceId): Sequence {
    const sequence = this.#sequences.get(id);
    if (sequence === undefined) throw new RangeError(`sequence ${id} is not open`);
    return sequence;
  }
}
