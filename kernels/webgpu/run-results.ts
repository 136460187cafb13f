// What is told of the logits that runs left on the device: of each row that is wanted, or of what rows are blended to.

import type { AskLogits, BlendPart, DecodeEntry } from "../model-runner.ts";
import type { Divergence } from "../sampling/blend.ts";
import type { LogitsQuery, TokenLogits } from "../sampling/logits-query.ts";
import type { Feeds } from "../session.ts";
import type { GpuLogits } from "./gpu-logits.ts";

type View = Feeds[string];
type AskedEntry = Pick<DecodeEntry, "query" | "blend">;

/** Of a decode, whose rows may be in several runs. One for each entry that is in no blend, and one for each blend. */
export class DecodeResults {
  readonly #logits: GpuLogits;
  readonly #entries: readonly AskedEntry[];
  readonly #places: readonly number[]; // by entry: of its result
  readonly #found: TokenLogits[] = [];

  private constructor(logits: GpuLogits, entries: readonly AskedEntry[]) {
    this.#logits = logits;
    this.#entries = entries;
    let place = -1;
    this.#places = entries.map(({ blend }) => (blend == null || blend.index === 0 ? ++place : place));
  }

  static async begin(logits: GpuLogits, entries: readonly AskedEntry[]): Promise<DecodeResults> {
    const results = new DecodeResults(logits, entries);
    if (results.isBlended) await logits.blends.begin(results.#places.at(-1)! + 1);
    return results;
  }

  get isBlended(): boolean {
    return this.#entries.some(({ blend }) => blend != null);
  }

  /** @param entries of the run's rows, by their numbers */
  async add(logits: View, entries: readonly number[]): Promise<void> {
    const rows = [...entries.entries()].map(([row, entry]) => ({
      row,
      place: this.#places[entry]!,
      ...this.#entries[entry]!,
    }));
    const own = rows.filter(({ blend }) => blend == null);
    await this.#tell(logits, own);
    const parts = rows.flatMap(({ row, place, blend }) =>
      blend == null ? [] : [{ row, sum: place, ...blend }],
    );
    if (parts.length > 0) {
      await this.#logits.blends.add(
        logits,
        parts.toSorted((one, other) => one.index - other.index),
      );
    }
  }

  async finish(): Promise<readonly TokenLogits[]> {
    const firsts = [...this.#entries.entries()].filter(([, { blend }]) => blend?.index === 0);
    if (firsts.length > 0) {
      const rows = firsts.map(([entry, { query }]) => ({
        row: this.#places[entry]!,
        place: this.#places[entry]!,
        query,
      }));
      await this.#tell(this.#logits.blends.sums, rows);
    }
    return this.#found;
  }

  async #tell(
    logits: View,
    rows: readonly { readonly row: number; readonly place: number; readonly query?: AskLogits | undefined }[],
  ): Promise<void> {
    const asked = rows.map(({ row, query }) => ({ row, query: query?.(0) ?? null }));
    for (const [index, told] of (await this.#logits.results(logits, asked)).entries()) {
      this.#found[rows[index]!.place] = told;
    }
  }
}

export type AskedChunk = {
  readonly count: number; // of wanted tokens
  readonly query: AskLogits;
  readonly blend: BlendPart | null;
};

/** Of a chunk's wanted tokens, which may come in several runs. Of a blend, with its last part. */
export class ChunkResults {
  readonly #logits: GpuLogits;
  readonly #asked: AskedChunk;
  #added = 0;
  readonly #found: TokenLogits[] = [];
  readonly #divergences: Divergence[] = [];

  private constructor(logits: GpuLogits, asked: AskedChunk) {
    this.#logits = logits;
    this.#asked = asked;
  }

  static async begin(logits: GpuLogits, asked: AskedChunk): Promise<ChunkResults> {
    if (asked.blend?.index === 0 && asked.count > 0) await logits.blends.begin(asked.count);
    return new ChunkResults(logits, asked);
  }

  /** @param logits of the next wanted tokens */
  async add(logits: View): Promise<void> {
    const { query, blend } = this.#asked;
    const first = this.#added;
    const rows = Array.from({ length: logits.dims[0]! }, (_, row) => row);
    this.#added += rows.length;
    if (blend === null) {
      this.#found.push(...(await this.#tell(logits, rows, (row) => query(first + row))));
    } else if (blend.type === "compare" && blend.index > 0) {
      this.#divergences.push(...(await this.#logits.blends.divergences(logits, first)));
    } else {
      const weight = blend.type === "compare" ? 1 : blend.weight;
      await this.#logits.blends.add(
        logits,
        rows.map((row) => ({ row, sum: first + row, weight })),
      );
    }
  }

  async finish(): Promise<{ rows: readonly TokenLogits[]; divergences: readonly Divergence[] }> {
    const { count, query, blend } = this.#asked;
    const isSummed = blend?.type === "logits" && blend.index === blend.count - 1 && count > 0;
    if (!isSummed) return { rows: this.#found, divergences: this.#divergences };
    const sums = [...new Array(count).keys()];
    return { rows: await this.#tell(this.#logits.blends.sums, sums, query), divergences: [] };
  }

  #tell(
    logits: View,
    rows: readonly number[],
    query: (row: number) => LogitsQuery | null,
  ): Promise<TokenLogits[]> {
    return this.#logits.results(
      logits,
      rows.map((row) => ({ row, query: query(row) })),
    );
  }
}
