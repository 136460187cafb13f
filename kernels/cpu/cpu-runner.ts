// The CPU device: one session, key/value rows and adapter slots in host memory. Rows that decode together are kept
// at the front of the arena, so that the batch is one view. Not reentrant: one call at a time.

import type { AdapterTargets, DecodedAdapter } from "../adapter.ts";
import type { BaseModel } from "../base-model.ts";
import { inputNames, outputNames } from "../forward-graph.ts";
import { adapterTargets } from "../model-family.ts";
import type { Logits, ModelRunner, PrefillChunk, RunnerStats, SequenceId } from "../model-runner.ts";
import { RotaryTable } from "../rotary.ts";
import { type Feeds, floatTensor, indexTensor } from "../session.ts";
import { SiteAdapter } from "../site-adapter.ts";
import { AdapterBank } from "./adapter-bank.ts";
import { type BankReaders, decodeAdapterFeeds, prefillAdapterFeeds } from "./adapter-feeds.ts";
import { fillDecodeMask, fillPrefillMask } from "./attention-mask.ts";
import { KvArena } from "./kv-arena.ts";
import { assignSlots } from "./slot-sharing.ts";

type Sequence = { readonly id: SequenceId; readonly adapterVersion: string | null; row: number };

export type CpuRunnerOptions = { readonly maxRows: number; readonly maxContext: number };

export class CpuRunner implements ModelRunner {
  readonly maxContext: number;
  readonly maxRows: number;
  readonly #base: BaseModel;
  readonly #targets: AdapterTargets;
  readonly #arena: KvArena;
  readonly #bank: AdapterBank;
  readonly #rotaries: readonly RotaryTable[];
  readonly #adapters = new Map<string, SiteAdapter>();
  readonly #sequences = new Map<SequenceId, Sequence>();
  readonly #rows: Sequence[] = []; // by row index
  #decodeFeeds: { readonly key: string; readonly feeds: Feeds } | null = null;

  constructor(base: BaseModel, options: CpuRunnerOptions) {
    this.#base = base;
    this.maxContext = options.maxContext;
    this.maxRows = options.maxRows;
    this.#targets = adapterTargets(base.config);
    this.#arena = new KvArena(base.config, options.maxRows);
    this.#bank = new AdapterBank(this.#targets);
    this.#rotaries = base.config.rotaries.map((rotary) => new RotaryTable(rotary));
  }

  addAdapter(version: string, adapter: DecodedAdapter): void {
    this.#adapters.set(version, new SiteAdapter(adapter, this.#targets));
  }

  removeAdapter(version: string): void {
    this.#bank.release(version, this.#adapters);
    this.#adapters.delete(version);
  }

  hasAdapter(version: string): boolean {
    return this.#adapters.has(version);
  }

  open(id: SequenceId, adapterVersion: string | null): void {
    if (this.#rows.length === this.maxRows) throw new RangeError(`all ${this.maxRows} rows are taken`);
    const sequence = { id, adapterVersion, row: this.#rows.length };
    this.#rows.push(sequence);
    this.#sequences.set(id, sequence);
    this.#arena.clear(sequence.row);
  }

  isOpen(id: SequenceId): boolean {
    return this.#sequences.has(id);
  }

  close(id: SequenceId): void {
    const sequence = this.#find(id);
    const last = this.#rows.at(-1)!;
    this.#swapRows(sequence, last);
    this.#rows.pop();
    this.#sequences.delete(id);
    this.#arena.clear(sequence.row);
  }

  async prefill(chunk: PrefillChunk): Promise<Logits> {
    const { row, adapterVersion } = this.#find(chunk.sequence);
    const count = chunk.tokenIds.length;
    const past = this.#arena.length(row);
    this.#reserve(past + count);
    const { heads, kvHeads, headDim, layers } = this.#base.config;
    const wanted = wantedTokens(chunk.logits, count);
    const feeds: Feeds = {
      ...prefillAdapterFeeds(this.#adapterOf(adapterVersion), count, this.#targets),
      ...this.#tokenFeeds(chunk.tokenIds, [{ position: past, count, length: chunk.promptLength }]),
      [inputNames.positions]: indexTensor(sequenceOf(count), [1, count]),
      [inputNames.scoreSplit]: indexTensor([past, count], [2]),
      [inputNames.headsShape]: indexTensor([1, count, heads + 2 * kvHeads, headDim], [4]),
      [inputNames.logitRows]: indexTensor(wanted, [wanted.length]),
    };
    for (const window of this.#windows()) {
      const mask = fillPrefillMask({ past, count, groups: heads / kvHeads, window });
      feeds[inputNames.mask(window !== null)] = floatTensor(mask, [
        1,
        1,
        maskRows(count, heads / kvHeads),
        past + count,
      ]);
    }
    const { keys, values } = this.#arena.compactRow(row);
    for (let layer = 0; layer < layers; layer++) {
      feeds[inputNames.pastKeys(layer)] = floatTensor(keys[layer]!, [1, kvHeads, past, headDim]);
      feeds[inputNames.pastValues(layer)] = floatTensor(values[layer]!, [1, kvHeads, past, headDim]);
    }
    return this.#run(feeds, [row], count);
  }

  async decode(
    entries: readonly { readonly sequence: SequenceId; readonly tokenId: number }[],
  ): Promise<Logits> {
    const count = entries.length;
    for (const [row, { sequence }] of entries.entries())
      this.#swapRows(this.#find(sequence), this.#rows[row]!);
    const lengths = entries.map((_, row) => this.#arena.length(row));
    this.#reserve(Math.max(...lengths) + 1);
    const capacity = this.#arena.capacity;
    const feeds: Feeds = {
      ...this.#stableDecodeFeeds(count),
      ...this.#tokenFeeds(
        entries.map((entry) => entry.tokenId),
        lengths.map((length) => ({ position: length, count: 1, length: length + 1 })),
      ),
    };
    for (const window of this.#windows()) {
      const mask = fillDecodeMask({ lengths, capacity, window });
      feeds[inputNames.mask(window !== null)] = floatTensor(mask, [count, 1, 1, capacity + 1]);
    }
    return this.#run(feeds, sequenceOf(count), 1);
  }

  stats(): RunnerStats {
    return {
      sessionMs: this.#base.session.runMs,
      kvTokensUsed: this.#rows.reduce((sum, { row }) => sum + this.#arena.length(row), 0),
      residentAdapters: this.#bank.versions,
      slotLoads: this.#bank.loads,
      slotEvictions: this.#bank.unloads,
    };
  }

  async dispose(): Promise<void> {
    await this.#base.session.close();
  }

  /** Inputs that stay the same from one decode step to the next until rows, slots or the bucket change. */
  #stableDecodeFeeds(count: number): Feeds {
    const readers = this.#assignSlots(count);
    const key = `${count} ${this.#arena.generation} ${this.#bank.generation} ${JSON.stringify(readers)}`;
    if (this.#decodeFeeds?.key === key) return this.#decodeFeeds.feeds;
    const { heads, kvHeads, headDim, layers } = this.#base.config;
    const capacity = this.#arena.capacity;
    const feeds: Feeds = {
      ...decodeAdapterFeeds(this.#bank, { rows: count, ...readers }, layers),
      [inputNames.positions]: indexTensor(sequenceOf(count), [count, 1]),
      [inputNames.scoreSplit]: indexTensor([capacity, 1], [2]),
      [inputNames.headsShape]: indexTensor([count, 1, heads + 2 * kvHeads, headDim], [4]),
      [inputNames.logitRows]: indexTensor(sequenceOf(count), [count]),
    };
    const { keys, values } = this.#arena.firstRows(count);
    for (let layer = 0; layer < layers; layer++) {
      feeds[inputNames.pastKeys(layer)] = floatTensor(keys[layer]!, [count, kvHeads, capacity, headDim]);
      feeds[inputNames.pastValues(layer)] = floatTensor(values[layer]!, [count, kvHeads, capacity, headDim]);
    }
    this.#decodeFeeds = { key, feeds };
    return feeds;
  }

  /** Brings the adapters of the first `count` rows into slots. */
  #assignSlots(count: number): { readers: BankReaders[]; rowsPerSlot: number } {
    const assignment = assignSlots(this.#rows.slice(0, count).map((sequence) => sequence.adapterVersion));
    this.#bank.hold(
      assignment.readers.map((reader) => reader.copy),
      this.#adapters,
    );
    return assignment;
  }

  #tokenFeeds(
    tokenIds: readonly number[],
    runs: readonly { readonly position: number; readonly count: number; readonly length: number }[],
  ): Feeds {
    const { hiddenSize } = this.#base.config;
    const hidden = new Float32Array(tokenIds.length * hiddenSize);
    this.#base.embeddings.lookup(tokenIds, hidden);
    const feeds: Feeds = { [inputNames.hidden]: floatTensor(hidden, [tokenIds.length, hiddenSize]) };
    for (const [index, table] of this.#rotaries.entries()) {
      const dims = [tokenIds.length, table.halfDimensions];
      const cos = new Float32Array(tokenIds.length * table.halfDimensions);
      const sin = new Float32Array(cos.length);
      let row = 0;
      for (const { position, count, length } of runs) {
        table.fill({ cos, sin, row }, position, count, length);
        row += count;
      }
      feeds[inputNames.cos(index)] = floatTensor(cos, dims);
      feeds[inputNames.sin(index)] = floatTensor(sin, dims);
    }
    return feeds;
  }

  async #run(feeds: Feeds, rows: readonly number[], tokens: number): Promise<Logits> {
    const outputs = await this.#base.session.run(feeds);
    this.#arena.append(rows, tokens, outputs[outputNames.newKeyValues]!);
    const { vocabSize } = this.#base.config;
    const data = outputs[outputNames.logits]!;
    return { count: data.length / vocabSize, vocabSize, data };
  }

  #reserve(tokens: number): void {
    const longest = this.#rows.reduce((max, { row }) => Math.max(max, this.#arena.length(row)), 0);
    this.#arena.reserve(Math.max(tokens, longest));
  }

  #windows(): Set<number | null> {
    return new Set(this.#base.config.layerWindow);
  }

  #swapRows(one: Sequence, other: Sequence): void {
    if (one === other) return;
    this.#arena.swap(one.row, other.row);
    const row = one.row;
    one.row = other.row;
    other.row = row;
    this.#rows[one.row] = one;
    this.#rows[other.row] = other;
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

function sequenceOf(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}

/** One token per row needs no repetition over the query heads of a group: the mask's row is broadcast. */
function maskRows(count: number, groups: number): number {
  return count === 1 ? 1 : count * groups;
}

function wantedTokens(logits: PrefillChunk["logits"], count: number): number[] {
  if (logits === "all") return sequenceOf(count);
  return logits === "last" ? [count - 1] : [];
}
