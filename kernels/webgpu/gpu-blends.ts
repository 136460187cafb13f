// Logits of several models that read the same tokens: weighted sums of rows that different runs made, and how far one
// model's rows are from another's (sampling/blend.ts). The sums stay on the device.

import { type Divergence, divergenceOf } from "../sampling/blend.ts";
import { type Feeds, floatTensor, indexTensor, int32Tensor } from "../session.ts";
import { divergenceGraph, sumGraph } from "./gpu-logit-graphs.ts";
import type { BusCounter, GpuAllocator } from "./gpu-session.ts";
import { LazySession } from "./lazy-session.ts";
import { LogitRows } from "./logit-rows.ts";

type View = Feeds[string];

/** A row of logits that is a part of a sum. */
export type SummedRow = { readonly row: number; readonly sum: number; readonly weight: number };

export class GpuBlends {
  readonly #rows: LogitRows;
  readonly #add: LazySession;
  readonly #compare: LazySession;
  #sums: View | null = null;
  readonly #begun = new Set<number>(); // sums that something was added to

  constructor(vocabSize: number, allocator: GpuAllocator, bus: BusCounter) {
    this.#rows = new LogitRows(vocabSize, allocator);
    this.#add = new LazySession(() => ({ model: sumGraph(vocabSize), bus }));
    this.#compare = new LazySession(() => ({ model: divergenceGraph(vocabSize), bus }));
  }

  /** New sums; those before are lost. */
  async begin(count: number): Promise<void> {
    this.#begun.clear();
    this.#sums = await this.#rows.take(count);
  }

  /** [count, vocab]; each is there once something was added to it. */
  get sums(): View {
    if (this.#sums === null) throw new Error("no sums were begun");
    return this.#sums;
  }

  /** A sum's rows in the order in which they are given. */
  async add(logits: View, rows: readonly SummedRow[]): Promise<void> {
    const { sums } = this;
    for (let open = rows; open.length > 0; ) {
      const taken = new Map(open.toReversed().map((row) => [row.sum, row])); // of each sum the first
      const added = [...taken.values()];
      const session = await this.#add.get();
      const count = added.length;
      await session.run(
        {
          sums,
          logits,
          wanted: int32Tensor(
            Int32Array.from(added, ({ row }) => row),
            [count],
          ),
          places: indexTensor(
            added.map(({ sum }) => sum),
            [count, 1],
          ),
          counts: floatTensor(
            Float32Array.from(added, ({ sum }) => Number(this.#begun.has(sum))),
            [count, 1],
          ),
          weights: floatTensor(
            Float32Array.from(added, ({ weight }) => weight),
            [count, 1],
          ),
        },
        { changed: sums },
      );
      for (const { sum } of added) this.#begun.add(sum);
      open = open.filter((row) => !added.includes(row));
    }
  }

  /** Of each row of `logits` from the sum of its number, counted from `first`. */
  async divergences(logits: View, first: number): Promise<Divergence[]> {
    const count = logits.dims[0]!;
    const session = await this.#compare.get();
    const wanted = int32Tensor(
      Int32Array.from({ length: count }, (_, row) => first + row),
      [count],
    );
    const outputs = await session.run({ sums: this.sums, wanted, others: logits });
    const of = (name: string, row: number) => Number(outputs[name]!.data[row]);
    return Array.from({ length: count }, (_, row) =>
      divergenceOf({
        ownSum: of("oneSums", row),
        otherSum: of("otherSums", row),
        difference: of("differences", row),
        isSameTop: of("oneTop", row) === of("otherTop", row),
      }),
    );
  }

  async close(): Promise<void> {
    this.#rows.dispose();
    await this.#add.close();
    await this.#compare.close();
  }
}
