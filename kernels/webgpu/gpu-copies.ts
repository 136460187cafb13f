// Copies between buffers of the device, of many buffers in one run: rows of a matrix written into others in place,
// one row read, rows made longer. What the rows are, it does not know.

import { GraphBuilder } from "../onnx/graph-builder.ts";
import { type Feeds, indexTensor, int32Tensor } from "../session.ts";
import { type BusCounter, GpuSession } from "./gpu-session.ts";

type View = Feeds[string];

/** Writes rows [n, width] of each source over rows `places` of its target [rows, width]. */
export class RowWriter {
  readonly #session: GpuSession;

  private constructor(session: GpuSession) {
    this.#session = session;
  }

  /** @param widths of each pair; null where it changes from run to run, and is the same for all of these */
  static async open(widths: readonly (number | null)[], bus: BusCounter): Promise<RowWriter> {
    const graph = new GraphBuilder();
    graph.input("places", "int32", ["n", 1]);
    if (widths.includes(null)) graph.input("width", "int64", [2]);
    for (const [pair, width] of widths.entries()) {
      const shape = [`rows.${pair}`, width ?? "W"];
      graph.input(`target.${pair}`, "float32", shape);
      graph.input(`source.${pair}`, "float32", ["n", width ?? "W"]);
      const [index] = graph.node("Expand", ["places", width === null ? "width" : graph.integers([1, width])]);
      graph.node("ScatterElements", [`target.${pair}`, index!, `source.${pair}`], {
        outputs: [`written.${pair}`],
        attributes: { axis: 0 },
      });
      graph.output(`written.${pair}`, "float32", shape);
    }
    return new RowWriter(await GpuSession.open({ model: graph.finish(), bus }));
  }

  async write(
    pairs: readonly { readonly target: View; readonly source: View }[],
    places: readonly number[],
  ): Promise<void> {
    const feeds: Feeds = { places: int32Tensor(Int32Array.from(places), [places.length, 1]) };
    const into: Feeds = {};
    for (const [pair, { target, source }] of pairs.entries()) {
      feeds[`target.${pair}`] = target;
      feeds[`source.${pair}`] = source;
      into[`written.${pair}`] = target;
    }
    const width = pairs[0]!.source.dims[1]!;
    await this.#session.run({ ...feeds, width: indexTensor([1, width], [2]) }, into);
  }

  async close(): Promise<void> {
    await this.#session.close();
  }
}

type OneOutput = {
  readonly operator: string;
  readonly attributes?: Record<string, number>;
  readonly parameter: readonly ["int32" | "int64", number];
};

/** The same operator on many pairs, into buffers that are there. */
class PairCopies {
  readonly #session: GpuSession;

  private constructor(session: GpuSession) {
    this.#session = session;
  }

  static async open(count: number, { operator, ...rest }: OneOutput, bus: BusCounter): Promise<PairCopies> {
    const graph = new GraphBuilder();
    const [type, length] = rest.parameter;
    graph.input("parameter", type, [length]);
    for (let pair = 0; pair < count; pair++) {
      graph.input(`source.${pair}`, "float32", [`rows.${pair}`, `width.${pair}`]);
      graph.node(operator, [`source.${pair}`, "parameter"], {
        outputs: [`copy.${pair}`],
        attributes: rest.attributes ?? {},
      });
      graph.output(`copy.${pair}`, "float32", [`copied.${pair}`, `copy.width.${pair}`]);
    }
    return new PairCopies(await GpuSession.open({ model: graph.finish(), bus }));
  }

  async run(
    pairs: readonly { readonly target: View; readonly source: View }[],
    parameter: View,
  ): Promise<void> {
    const feeds: Feeds = { parameter };
    const into: Feeds = {};
    for (const [pair, { target, source }] of pairs.entries()) {
      feeds[`source.${pair}`] = source;
      into[`copy.${pair}`] = target;
    }
    await this.#session.run(feeds, into);
  }

  async close(): Promise<void> {
    await this.#session.close();
  }
}

/** Copies one row of each source [rows, width] to its target [1, width]. */
export class RowReader {
  readonly #copies: PairCopies;

  private constructor(copies: PairCopies) {
    this.#copies = copies;
  }

  static async open(count: number, bus: BusCounter): Promise<RowReader> {
    const gather = { operator: "Gather", attributes: { axis: 0 }, parameter: ["int32", 1] } as const;
    return new RowReader(await PairCopies.open(count, gather, bus));
  }

  async read(pairs: readonly { readonly target: View; readonly source: View }[], row: number): Promise<void> {
    await this.#copies.run(pairs, int32Tensor(Int32Array.of(row), [1]));
  }

  async close(): Promise<void> {
    await this.#copies.close();
  }
}

/** Copies matrices to wider ones; what is new is zero. All of a run become wider by the same factor. */
export class RowWidener {
  readonly #copies: PairCopies;

  private constructor(copies: PairCopies) {
    this.#copies = copies;
  }

  static async open(count: number, bus: BusCounter): Promise<RowWidener> {
    return new RowWidener(await PairCopies.open(count, { operator: "Pad", parameter: ["int64", 4] }, bus));
  }

  async widen(pairs: readonly { readonly target: View; readonly source: View }[]): Promise<void> {
    const { target, source } = pairs[0]!;
    await this.#copies.run(pairs, indexTensor([0, 0, 0, target.dims[1]! - source.dims[1]!], [4]));
  }

  async close(): Promise<void> {
    await this.#copies.close();
  }
}
