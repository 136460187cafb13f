// The logits of a decode step, on the device: its most likely tokens and their normaliser come back, and whole rows
// only where they are asked for.

import { GraphBuilder } from "../onnx/graph-builder.ts";
import type { RankedLogits } from "../sampling/ranked-logits.ts";
import { type Feeds, indexTensor, int32Tensor } from "../session.ts";
import { type BusCounter, type GpuAllocator, type GpuBuffer, GpuSession } from "./gpu-session.ts";

export class GpuLogits {
  readonly #vocabSize: number;
  readonly #allocator: GpuAllocator;
  readonly #rank: GpuSession;
  readonly #rows: GpuSession;
  #buffer: { readonly rows: number; readonly data: GpuBuffer } | null = null;

  private constructor(
    { vocabSize, allocator }: { readonly vocabSize: number; readonly allocator: GpuAllocator },
    sessions: { readonly rank: GpuSession; readonly rows: GpuSession },
  ) {
    this.#vocabSize = vocabSize;
    this.#allocator = allocator;
    this.#rank = sessions.rank;
    this.#rows = sessions.rows;
  }

  static async open(vocabSize: number, allocator: GpuAllocator, bus: BusCounter): Promise<GpuLogits> {
    const rank = rankGraph(vocabSize);
    const rows = new GraphBuilder();
    rows.input("logits", "float32", ["n", vocabSize]);
    rows.input("wanted", "int32", ["m"]);
    rows.node("Gather", ["logits", "wanted"], { outputs: ["rows"], attributes: { axis: 0 } });
    rows.output("rows", "float32", ["m", vocabSize]);
    return new GpuLogits(
      { vocabSize, allocator },
      {
        rank: await GpuSession.open({ model: rank.finish(), bus }),
        rows: await GpuSession.open({ model: rows.finish(), bus }),
      },
    );
  }

  /** @returns where a run writes its logits [rows, vocab]; what was there is lost */
  async place(rows: number): Promise<Feeds[string]> {
    if (this.#buffer === null || this.#buffer.rows < rows) {
      this.#buffer?.data.dispose();
      this.#buffer = null;
      this.#buffer = { rows, data: await this.#allocator.zeros(rows * this.#vocabSize) };
    }
    return this.#buffer.data.view([rows, this.#vocabSize]);
  }

  /** The `count` most likely tokens of each row. */
  async ranked(logits: Feeds[string], count: number): Promise<RankedLogits[]> {
    const rows = logits.dims[0]!;
    // Each count is a shader of its own: few are made.
    const most = Math.min(this.#vocabSize, 2 ** Math.ceil(Math.log2(count)));
    const outputs = await this.#rank.run({ logits, count: indexTensor([most], [1]) });
    const values = outputs.values!.data as Float32Array;
    const ids = outputs.ids!.data as BigInt64Array;
    const normalisers = outputs.normalisers!.data as Float32Array;
    return Array.from({ length: rows }, (_, row) => ({
      // In a row that is not a number nothing is likelier than the rest, and the device's order may be anything.
      tokenIds: Number.isNaN(normalisers[row]!)
        ? Array.from({ length: most }, (_, index) => index)
        : Array.from(ids.subarray(row * most, (row + 1) * most), Number),
      logits: values.subarray(row * most, (row + 1) * most),
      logSumExp: normalisers[row]!,
    }));
  }

  /** Whole rows. */
  async rows(logits: Feeds[string], wanted: readonly number[]): Promise<Float32Array> {
    const places = int32Tensor(Int32Array.from(wanted), [wanted.length]);
    const { rows } = await this.#rows.run({ logits, wanted: places });
    return rows!.data as Float32Array;
  }

  async close(): Promise<void> {
    this.#buffer?.data.dispose();
    await this.#rank.close();
    await this.#rows.close();
  }
}

function rankGraph(vocabSize: number): GraphBuilder {
  const graph = new GraphBuilder();
  graph.input("logits", "float32", ["n", vocabSize]);
  graph.input("count", "int64", [1]);
  graph.node("TopK", ["logits", "count"], { outputs: ["values", "ids"], attributes: { axis: -1 } });
  const axis = graph.integers([1]);
  const [largest] = graph.node("ReduceMax", ["logits", axis]);
  const [below] = graph.node("Sub", ["logits", largest!]);
  const [weights] = graph.node("Exp", [below!]);
  const [total] = graph.node("ReduceSum", [weights!, axis]);
  const [logarithm] = graph.node("Log", [total!]);
  graph.node("Add", [largest!, logarithm!], { outputs: ["normalisers"] });
  graph.output("values", "float32", ["n", "k"]);
  graph.output("ids", "int64", ["n", "k"]);
  graph.output("normalisers", "float32", ["n", 1]);
  return graph;
}
