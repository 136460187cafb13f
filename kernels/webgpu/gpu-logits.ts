// The logits of a run, on the device: what the next draws need to know of them comes back, and whole rows only where
// nothing less suffices.

import type {
  BlockDraw,
  KnownLogits,
  LogitsQuery,
  RankedDraw,
  ScoredToken,
  TokenLogits,
} from "../sampling/logits-query.ts";
import { type Feeds, floatTensor, indexTensor, int32Tensor } from "../session.ts";
import { GpuBlends } from "./gpu-blends.ts";
import {
  blockGraph,
  blockTokens,
  changeGraph,
  rankGraph,
  rowsGraph,
  scoresGraph,
  unlikeliest,
} from "./gpu-logit-graphs.ts";
import { type BusCounter, type GpuAllocator, GpuSession } from "./gpu-session.ts";
import { LogitRows } from "./logit-rows.ts";

type View = Feeds[string];
type Sessions = Readonly<Record<"rank" | "block" | "change" | "scores" | "rows", GpuSession>>;

/** Rows of logits [rows, vocab] as draws see them, and by row what changed tokens had before. */
type Changed = { readonly logits: View; readonly unchanged: readonly ReadonlyMap<number, number>[] };

/** A row and what is asked of it; null = all. */
export type AskedRow = { readonly row: number; readonly query: LogitsQuery | null };

/** A row that a query is about. */
type Asked<Draw = LogitsQuery["draw"]> = {
  readonly row: number;
  readonly query: LogitsQuery;
  readonly draw: Draw;
};

type Report = NonNullable<KnownLogits["report"]>;
type Ranking = { readonly tokenIds: number[]; readonly logits: Float32Array; readonly total: number };

/** Telling the device of a change takes eight times the bytes of a logit: beyond this share, a whole row takes fewer. */
const mostChangedShare = 1 / 8;
/** Rounded up to one, a random number would pass all weights. */
const largestRandom = 1 - 2 ** -24;

export class GpuLogits {
  readonly #vocabSize: number;
  readonly #sessions: Sessions;
  readonly blends: GpuBlends;
  readonly #placed: LogitRows;
  readonly #changed: LogitRows;

  private constructor(
    vocabSize: number,
    { allocator, bus, sessions }: { allocator: GpuAllocator; bus: BusCounter; sessions: Sessions },
  ) {
    this.#vocabSize = vocabSize;
    this.#sessions = sessions;
    this.blends = new GpuBlends(vocabSize, allocator, bus);
    this.#placed = new LogitRows(vocabSize, allocator);
    this.#changed = new LogitRows(vocabSize, allocator);
  }

  static async open(vocabSize: number, allocator: GpuAllocator, bus: BusCounter): Promise<GpuLogits> {
    const sessions = {
      rank: await GpuSession.open({ model: rankGraph(vocabSize), bus }),
      block: await GpuSession.open({ model: blockGraph(vocabSize), bus }),
      change: await GpuSession.open({ model: changeGraph(vocabSize), bus }),
      scores: await GpuSession.open({ model: scoresGraph(vocabSize), bus }),
      rows: await GpuSession.open({ model: rowsGraph(vocabSize), bus }),
    };
    return new GpuLogits(vocabSize, { allocator, bus, sessions });
  }

  /** @returns where a run writes its logits [rows, vocab]; what was there is lost */
  place(rows: number): Promise<View> {
    return this.#placed.take(rows);
  }

  /** @param rows of the logits, each once */
  async results(logits: View, rows: readonly AskedRow[]): Promise<TokenLogits[]> {
    const asked = rows.flatMap(({ row, query }): Asked[] =>
      query === null || query.changes.length > this.#vocabSize * mostChangedShare
        ? []
        : [{ row, query, draw: query.draw }],
    );
    const changed = await this.#change(logits, asked);
    const reports = await this.#reports(logits, asked);
    const found = new Map<number, TokenLogits>();
    const add = (row: number, known: Omit<KnownLogits, "report" | "unchanged">) =>
      found.set(row, { ...known, unchanged: changed.unchanged[row]!, report: reports.get(row) ?? null });
    const blocks = asked.filter((one): one is Asked<BlockDraw> => one.draw.kind === "block");
    for (const [row, known] of await this.#blocks(changed.logits, blocks)) add(row, known);
    const scored = asked.filter((one): one is Asked<ScoredToken> => one.draw.kind === "scored");
    for (const [index, logit] of (await this.#scores(logits, scored)).entries()) {
      const { row, draw } = scored[index]!;
      const { logSumExp, logits: likely } = reports.get(row)!;
      const known = { tokenIds: [draw.tokenId], logits: Float32Array.of(logit), before: 0 };
      add(row, { ...known, largest: likely[0]!, total: Math.exp(logSumExp - likely[0]!) });
    }
    let open = asked.filter((one): one is Asked<RankedDraw> => one.draw.kind === "ranked");
    for (let round = 0; open.length > 0; round++) {
      const rankings = await this.#rank(changed.logits, open, (one) => one.draw.counts[round]!);
      for (const [index, { total, ...ranking }] of rankings.entries()) {
        const { row, draw } = open[index]!;
        add(row, { ...ranking, total, largest: ranking.logits[0]!, before: 0 });
        const isAll = ranking.tokenIds.length === this.#vocabSize;
        if (!isAll && !draw.suffices(found.get(row) as KnownLogits)) found.delete(row);
      }
      open = open.filter(({ row, draw }) => !found.has(row) && draw.counts.length > round + 1);
    }
    const whole = rows.map(({ row }) => row).filter((row) => !found.has(row));
    for (const [index, row] of (await this.#rows(logits, whole)).entries()) found.set(whole[index]!, row);
    return rows.map(({ row }) => found.get(row)!);
  }

  async close(): Promise<void> {
    this.#placed.dispose();
    this.#changed.dispose();
    await this.blends.close();
    for (const session of Object.values(this.#sessions)) await session.close();
  }

  async #scores(logits: View, asked: readonly Asked<ScoredToken>[]): Promise<Float32Array> {
    if (asked.length === 0) return new Float32Array();
    const places = asked.flatMap(({ row, draw }) => [row, draw.tokenId]);
    const outputs = await this.#sessions.scores.run({
      logits,
      places: indexTensor(places, [asked.length, 2]),
    });
    return outputs.scores!.data as Float32Array;
  }

  async #rows(logits: View, rows: readonly number[]): Promise<Float32Array[]> {
    if (rows.length === 0) return [];
    const outputs = await this.#sessions.rows.run({ logits, wanted: rowIndexes(rows) });
    return rows.map((_, row) => part(outputs.rows!, row));
  }

  /** @returns for each of the asked, its most likely tokens: at least `countOf` it, and of all equally many */
  async #rank<One extends Asked>(
    logits: View,
    asked: readonly One[],
    countOf: (one: One) => number,
    temperatureOf: (one: One) => number = ({ query }) => query.temperature,
  ): Promise<Ranking[]> {
    // Each count is a shader of its own: few are made.
    const count = Math.min(this.#vocabSize, 2 ** Math.ceil(Math.log2(Math.max(1, ...asked.map(countOf)))));
    const outputs = await this.#sessions.rank.run({
      logits,
      wanted: rowIndexes(asked.map(({ row }) => row)),
      temperatures: floatTensor(Float32Array.from(asked, temperatureOf), [asked.length, 1]),
      count: indexTensor([count], [1]),
    });
    const ids = outputs.ids!.data as BigInt64Array;
    return asked.map((_, row) => {
      const total = part(outputs.totals!, row)[0]!;
      return {
        // In a row that is not a number nothing is likelier than the rest, and the device's order may be anything.
        tokenIds: Array.from({ length: count }, (_, rank) =>
          Number.isNaN(total) ? rank : Number(ids[row * count + rank]),
        ),
        logits: part(outputs.values!, row),
        total,
      };
    });
  }

  /** Of rows whose log-probabilities are asked for, as they were before any change. */
  async #reports(logits: View, asked: readonly Asked[]): Promise<Map<number, Report>> {
    const reported = asked.filter(({ query }) => query.reported !== null);
    if (reported.length === 0) return new Map();
    const countOf = ({ query }: Asked) => query.reported ?? 0;
    const rankings = await this.#rank(logits, reported, countOf, () => 1);
    return new Map(
      rankings.map(({ tokenIds, logits: likely, total }, index) => {
        const { row, query } = reported[index]!;
        const logSumExp = likely[0]! + Math.log(total);
        return [row, { logSumExp, tokenIds: tokenIds.slice(0, query.reported!), logits: likely }];
      }),
    );
  }

  async #blocks(
    logits: View,
    asked: readonly Asked<BlockDraw>[],
  ): Promise<Map<number, Omit<KnownLogits, "report" | "unchanged">>> {
    if (asked.length === 0) return new Map();
    const randoms = Float32Array.from(asked, ({ draw }) => Math.min(draw.random, largestRandom));
    const temperatures = Float32Array.from(asked, ({ query }) => query.temperature);
    const outputs = await this.#sessions.block.run({
      logits,
      wanted: rowIndexes(asked.map(({ row }) => row)),
      temperatures: floatTensor(temperatures, [asked.length, 1, 1]),
      randoms: floatTensor(randoms, [asked.length, 1]),
    });
    return new Map(
      asked.map(({ row }, index) => {
        const of = (name: string) => part(outputs[name]!, index)[0]!;
        const first = of("numbers") * blockTokens;
        const count = Math.min(blockTokens, this.#vocabSize - first);
        const tokenIds = Array.from({ length: count }, (_, token) => first + token);
        const known = part(outputs.block!, index).subarray(0, count);
        const [total, before] = [of("totals"), of("befores")];
        return [row, { tokenIds, logits: known, largest: of("largest"), total, before }];
      }),
    );
  }

  async #change(logits: View, asked: readonly Asked[]): Promise<Changed> {
    const unchanged = Array.from({ length: logits.dims[0]! }, () => new Map<number, number>());
    const changes = asked.flatMap(({ row, query }) => query.changes.map((change) => ({ row, ...change })));
    if (changes.length === 0) return { logits, unchanged };
    const changed = await this.#changed.take(logits.dims[0]!);
    const floats = (of: (change: (typeof changes)[number]) => number) =>
      floatTensor(Float32Array.from(changes, of), [changes.length]);
    const outputs = await this.#sessions.change.run(
      {
        logits,
        places: indexTensor(
          changes.flatMap(({ row, tokenId }) => [row, tokenId]),
          [changes.length, 2],
        ),
        biases: floats(({ bias }) => bias),
        repetitions: floats(({ repetition }) => repetition),
        addends: floats(({ addend }) => Math.max(addend, unlikeliest)),
      },
      { changed },
    );
    for (const [index, { row, tokenId }] of changes.entries()) {
      unchanged[row]!.set(tokenId, (outputs.unchanged!.data as Float32Array)[index]!);
    }
    return { logits: changed, unchanged };
  }
}

function rowIndexes(rows: readonly number[]): View {
  return int32Tensor(Int32Array.from(rows), [rows.length]);
}

/** One row of an output [rows, width]. */
function part({ data, dims }: View, row: number): Float32Array {
  const width = dims[1]!;
  return (data as Float32Array).subarray(row * width, (row + 1) * width);
}
