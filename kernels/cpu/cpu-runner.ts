// The CPU device: one session, and in host memory key/value rows, prefixes and adapter slots. Rows that decode
// together lie at the front of an arena, so that a run's batch is one view. Not reentrant: one call at a time.

import { type AdapterTargets, type DecodedAdapter, type EmbeddingModule, modulesOf } from "../adapter.ts";
import { addEmbedding } from "../adapter-embedding.ts";
import type { GraphFeature } from "../adapter-sites.ts";
import type { BaseModel } from "../base-model.ts";
import { outputNames } from "../forward-graph.ts";
import { adapterTargets } from "../model-family.ts";
import type {
  Logits,
  ModelRunner,
  OpenOptions,
  PrefillChunk,
  RunnerStats,
  SequenceId,
} from "../model-runner.ts";
import { type Feeds, freeOutput, type Session } from "../session.ts";
import { SiteAdapter } from "../site-adapter.ts";
import { prefillAdapterFeeds } from "./adapter-feeds.ts";
import { bytesPerToken } from "./kv-arena.ts";
import { KvFeeds, wantedTokens } from "./kv-feeds.ts";
import { type KvGroup, type KvSequence, KvStore } from "./kv-store.ts";
import { PrefixCache, type PrefixPlace, prefixBlockTokens } from "./prefix-cache.ts";
import { lengthMatters } from "./prefix-scaling.ts";
import { RunCost } from "./row-groups-cost.ts";
import { type GroupLogits, LogitGatherer } from "./row-groups-logits.ts";
import { StableDecodeFeeds } from "./stable-decode-feeds.ts";
import { TokenPairs } from "./token-pairs.ts";
import { VirtualTokens } from "./virtual-tokens.ts";

type Sequence = {
  readonly adapterVersion: string | null;
  readonly virtual: VirtualTokens | null;
  readonly kv: KvSequence;
  place: PrefixPlace | null; // null keeps it out of the prefix cache
};

/** Tokens as they enter the graph, of one sequence. */
type Chunk = {
  readonly hidden: Float32Array; // [tokens, hidden], with room for who is paired with the last
  readonly tokens: number;
  readonly promptLength: number; // virtual tokens included
  readonly wanted: readonly number[];
};

type DecodeRow = Sequence & { readonly tokenId: number };

export type CpuRunnerOptions = {
  readonly maxRows: number;
  readonly maxContext: number;
  readonly maxKvBytes?: number; // all rows at the whole context unless given
  readonly maxPrefixBytes?: number; // 0, no prefix cache, unless given
};

export class CpuRunner implements ModelRunner {
  readonly maxContext: number;
  readonly maxRows: number;
  readonly #base: BaseModel;
  readonly #targets: AdapterTargets;
  readonly #maxKvBytes: number;
  readonly #kv: KvStore;
  readonly #feeds: KvFeeds;
  readonly #pairs: TokenPairs;
  readonly #cost: RunCost;
  readonly #prefixes: PrefixCache;
  readonly #gatherer: LogitGatherer;
  readonly #stableFeeds: StableDecodeFeeds;
  readonly #neededFeatures = new Set<GraphFeature>(); // of all adapters so far; the graph grows before the next run
  readonly #adapters = new Map<string, SiteAdapter>();
  readonly #virtual = new Map<string, VirtualTokens>();
  readonly #embeddings = new Map<string, readonly EmbeddingModule[]>();
  readonly #sequences = new Map<SequenceId, Sequence>();
  #lentLogits: Float32Array<ArrayBuffer>[] = []; // the caller's until its next call
  #sessionMs = 0; // of its own runs: probes share the session

  /** @throws KvMemoryError `kv_budget_too_small` */
  constructor(base: BaseModel, options: CpuRunnerOptions) {
    const { maxRows, maxContext } = options;
    this.#base = base;
    this.maxContext = maxContext;
    this.maxRows = maxRows;
    this.#targets = adapterTargets(base.config);
    const tokenBytes = bytesPerToken(base.config);
    this.#maxKvBytes = options.maxKvBytes ?? maxRows * Math.ceil(maxContext / 64) * 64 * tokenBytes;
    this.#kv = new KvStore({ shape: base.config, maxRows, maxContext, maxBytes: this.#maxKvBytes });
    this.#feeds = new KvFeeds(base.config);
    this.#pairs = new TokenPairs(base);
    this.#cost = new RunCost(tokenBytes);
    this.#prefixes = new PrefixCache(options.maxPrefixBytes ?? 0);
    this.#gatherer = new LogitGatherer(base.config.vocabSize);
    this.#stableFeeds = new StableDecodeFeeds({
      base,
      targets: this.#targets,
      adapters: this.#adapters,
      feeds: this.#feeds,
      pairs: this.#pairs,
    });
  }

  addAdapter(version: string, adapter: DecodedAdapter): void {
    const sites = new SiteAdapter(adapter, this.#targets);
    const virtual = VirtualTokens.of(adapter, this.#base.config);
    for (const feature of sites.features) this.#neededFeatures.add(feature);
    this.#adapters.set(version, sites);
    this.#embeddings.set(version, modulesOf(adapter, "embedding"));
    if (virtual !== null) this.#virtual.set(version, virtual);
  }

  removeAdapter(version: string): void {
    this.#stableFeeds.release(version);
    this.#prefixes.dropVersion(version);
    this.#adapters.delete(version);
    this.#virtual.delete(version);
    this.#embeddings.delete(version);
  }

  hasAdapter(version: string): boolean {
    return this.#adapters.has(version);
  }

  virtualTokens(adapterVersion: string | null): number {
    return (adapterVersion === null ? undefined : this.#virtual.get(adapterVersion))?.count ?? 0;
  }

  kvBytesOf(tokens: number): number {
    return this.#kv.bytesOf(tokens);
  }

  open(id: SequenceId, { adapterVersion, prefix }: OpenOptions): { cachedTokens: number } {
    if (this.#sequences.size === this.maxRows) throw new RangeError(`all ${this.maxRows} rows are taken`);
    const virtual = adapterVersion === null ? null : (this.#virtual.get(adapterVersion) ?? null);
    const promptLength = (virtual?.count ?? 0) + (prefix?.tokenIds.length ?? 0);
    const kv = this.#kv.open(this.#withNextToken(promptLength));
    const sequence: Sequence = { adapterVersion, virtual, kv, place: null };
    this.#sequences.set(id, sequence);
    if (virtual !== null && virtual.keyValues !== null) this.#append(kv, virtual.keyValues, virtual.count);
    if (prefix === null || !this.#prefixes.isEnabled || this.#lengthMatters(promptLength)) {
      return { cachedTokens: 0 };
    }
    const root = { scope: prefix.scope, adapterVersion };
    // What comes before the blocks must be there first.
    const isReady = kv.row.length === (virtual?.count ?? 0);
    const { blocks, place } = this.#prefixes.find(root, isReady ? prefix.tokenIds : []);
    for (const keyValues of blocks) this.#append(kv, keyValues, prefixBlockTokens);
    sequence.place = place;
    return { cachedTokens: blocks.length * prefixBlockTokens };
  }

  isOpen(id: SequenceId): boolean {
    return this.#sequences.has(id);
  }

  close(id: SequenceId): void {
    this.#kv.close(this.#find(id).kv);
    this.#sequences.delete(id);
  }

  async prefill(chunk: PrefillChunk): Promise<Logits> {
    this.#takeLogitsBack();
    await this.#base.offer(this.#neededFeatures);
    const sequence = this.#find(chunk.sequence);
    const { kv, virtual, place } = sequence;
    const { tokenIds } = chunk;
    const virtualTokens = virtual?.count ?? 0;
    const promptLength = virtualTokens + chunk.promptLength;
    const position = Math.max(kv.row.length, virtualTokens);
    this.#kv.reserve([kv], () => Math.max(position + tokenIds.length, this.#withNextToken(promptLength)));
    if (kv.row.length < virtualTokens) await this.#computeVirtualTokens(sequence, promptLength);
    const tokens = tokenIds.length;
    const hidden = this.#pairs.hidden(tokens);
    this.#embed(tokenIds, sequence.adapterVersion, hidden);
    const wanted = wantedTokens(chunk.logits, tokenIds.length);
    const { logits, keyValues } = await this.#runChunk(sequence, { hidden, tokens, promptLength, wanted });
    const computed = position - virtualTokens;
    if (
      place !== null &&
      computed === place.parents.length * prefixBlockTokens &&
      tokenIds.length === prefixBlockTokens &&
      !this.#lengthMatters(promptLength)
    ) {
      sequence.place = this.#prefixes.insert(place, [...tokenIds], keyValues);
    } else {
      freeOutput(keyValues);
    }
    return logits;
  }

  async decode(
    entries: readonly { readonly sequence: SequenceId; readonly tokenId: number }[],
  ): Promise<Logits> {
    this.#takeLogitsBack();
    await this.#base.offer(this.#neededFeatures);
    const sequences = entries.map(({ sequence }) => this.#find(sequence));
    const groups = this.#kv.groups(
      sequences.map(({ kv }) => kv),
      this.#cost.current,
    );
    this.#stableFeeds.keep(groups);
    const parts: GroupLogits[] = [];
    for (const [index, group] of groups.entries()) {
      const members = group.sequences.map((kv) => sequences.findIndex((sequence) => sequence.kv === kv));
      const rows = members.map((entry) => ({ ...sequences[entry]!, tokenId: entries[entry]!.tokenId }));
      const versions = rows.map(({ adapterVersion }) => adapterVersion);
      const session = this.#sessionFor(versions);
      const isPlain = session === this.#base.plainSession;
      const stable = this.#stableFeeds.of({ index, group, versions, isPlain });
      const feeds = Object.assign(stable, this.#decodeFeeds(group, rows)); // the next step overwrites what is this one's
      parts.push({ entries: members, logits: await this.#runGroup(group, session, feeds) });
    }
    const data = this.#gatherer.gather(parts, entries.length);
    return { count: entries.length, vocabSize: this.#base.config.vocabSize, data };
  }

  stats(): RunnerStats {
    return {
      sessionMs: this.#sessionMs,
      busBytes: 0,
      kvTokensUsed: this.#kv.usedTokens,
      kvBytesUsed: this.#kv.usedBytes,
      kvBytesCapacity: this.#maxKvBytes,
      prefixQueriedTokens: this.#prefixes.queriedTokens,
      prefixHitTokens: this.#prefixes.hitTokens,
      prefixBytes: this.#prefixes.bytes,
      ...this.#stableFeeds.stats(),
    };
  }

  async dispose(): Promise<void> {
    await this.#base.close();
  }

  /** Puts the adapter's own tokens in front; a soft prompt's are computed like a prompt's, in the same chunks. */
  async #computeVirtualTokens(sequence: Sequence, promptLength: number): Promise<void> {
    const { kv, virtual } = sequence;
    const { count, prefix, soft } = virtual!;
    if (prefix !== null && kv.row.length === 0) this.#append(kv, prefix.keyValues, prefix.tokens);
    const { hiddenSize, rotaries } = this.#base.config;
    for (let first = kv.row.length - (count - soft!.tokens); first < soft!.tokens; ) {
      const tokens = Math.min(prefixBlockTokens, soft!.tokens - first);
      const hidden = this.#pairs.hidden(tokens);
      hidden.set(soft!.hidden.subarray(first * hiddenSize, (first + tokens) * hiddenSize));
      await this.#runChunk(sequence, { hidden, tokens, promptLength, wanted: [] });
      first += tokens;
    }
    // Every further sequence of the adapter starts with these, unless they depend on its length.
    if (lengthMatters(rotaries, Number.POSITIVE_INFINITY)) return;
    virtual!.keyValues = this.#kv.copy(kv);
  }

  async #runChunk(
    { kv, adapterVersion }: Sequence,
    { hidden, tokens, promptLength, wanted }: Chunk,
  ): Promise<{ logits: Logits; keyValues: Float32Array<ArrayBuffer> }> {
    const { vocabSize } = this.#base.config;
    const past = kv.row.length;
    const session = this.#sessionFor([adapterVersion]);
    const adapter = this.#adapterOf(adapterVersion);
    const counts = { tokens: this.#pairs.count(tokens), wanted: this.#pairs.count(wanted.length) };
    const { outputs } = await this.#run(session, {
      ...(session === this.#base.plainSession
        ? {}
        : prefillAdapterFeeds({ adapter, ...counts }, this.#targets, this.#base.features)),
      ...this.#feeds.shapes(1, tokens, past),
      ...this.#feeds.past(this.#kv.compact(kv), 1, past),
      ...this.#feeds.rotary([{ position: past, count: tokens, length: promptLength }]),
      ...this.#feeds.prefillMasks(past, tokens),
      ...this.#pairs.shapes(tokens),
      ...this.#pairs.hiddenFeed(hidden),
      ...this.#pairs.wanted(wanted),
    });
    const keyValues = outputs[outputNames.newKeyValues]!;
    this.#append(kv, keyValues, tokens);
    const data = this.#lend(outputs[outputNames.logits]!);
    return { logits: { count: wanted.length, vocabSize, data }, keyValues };
  }

  async #runGroup({ arena, sequences }: KvGroup, session: Session, feeds: Feeds): Promise<Float32Array> {
    const { outputs, ms } = await this.#run(session, feeds);
    const rows = sequences.length;
    this.#cost.observe({ rows, tokens: rows * arena.capacity, ms });
    const keyValues = outputs[outputNames.newKeyValues]!;
    arena.append(
      sequences.map(({ row }) => row),
      1,
      keyValues,
    );
    freeOutput(keyValues);
    return this.#lend(outputs[outputNames.logits]!);
  }

  /** Both make the same bits of rows without an adapter. */
  #sessionFor(versions: readonly (string | null)[]): Session {
    const { plainSession, session } = this.#base;
    return plainSession !== null && versions.every((version) => version === null) ? plainSession : session;
  }

  async #run(
    session: Session,
    feeds: Feeds,
  ): Promise<{ outputs: Awaited<ReturnType<Session["run"]>>; ms: number }> {
    const startMs = session.runMs;
    const outputs = await session.run(feeds);
    const ms = session.runMs - startMs;
    this.#sessionMs += ms;
    return { outputs, ms };
  }

  #lend(logits: Float32Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
    this.#lentLogits.push(logits);
    return logits;
  }

  #takeLogitsBack(): void {
    for (const logits of this.#lentLogits.splice(0)) freeOutput(logits);
  }

  #decodeFeeds({ arena }: KvGroup, rows: readonly DecodeRow[]): Feeds {
    const { hiddenSize } = this.#base.config;
    const hidden = this.#pairs.hidden(rows.length);
    for (const [row, { tokenId, adapterVersion }] of rows.entries()) {
      this.#embed([tokenId], adapterVersion, hidden.subarray(row * hiddenSize, (row + 1) * hiddenSize));
    }
    const lengths = rows.map(({ kv }) => kv.row.length);
    return {
      ...this.#feeds.rotary(lengths.map((length) => ({ position: length, count: 1, length: length + 1 }))),
      ...this.#feeds.decodeMasks(lengths, arena.capacity),
      ...this.#pairs.hiddenFeed(hidden),
    };
  }

  #embed(tokenIds: readonly number[], adapterVersion: string | null, hidden: Float32Array): void {
    this.#base.embeddings.lookup(tokenIds, hidden);
    if (adapterVersion === null) return;
    for (const module of this.#embeddings.get(adapterVersion) ?? []) addEmbedding(module, tokenIds, hidden);
  }

  #append({ row }: KvSequence, keyValues: Float32Array, tokens: number): void {
    row.arena.append([row], tokens, keyValues);
  }

  #withNextToken(tokens: number): number {
    return Math.min(tokens + 1, Math.max(tokens, this.maxContext));
  }

  #lengthMatters(promptLength: number): boolean {
    return lengthMatters(this.#base.config.rotaries, promptLength);
  }

  #adapterOf(version: string | null): SiteAdapter | null {
    if (version === null) return null;
    const adapter = this.#adapters.get(version);
    if (adapter === undefined) throw new RangeError(`adapter version ${version} is unknown to the device`);
    return adapter;
  }

  #find(id: SequenceId): Sequence {
    const sequence = this.#sequences.get(id);
    if (sequence === undefined) throw new RangeError(`sequence ${id} is not open`);
    return sequence;
  }
}
