// Sparse changes of a matrix on the device, written into it in place and taken back bit for bit: what was there comes
// to the host with the change, and is written over it afterwards.

import { GraphBuilder } from "../onnx/graph-builder.ts";
import { floatTensor, int32Tensor } from "../session.ts";
import type { BusCounter, GpuBuffer } from "./gpu-session.ts";
import { LazySession } from "./lazy-session.ts";

export type MatrixChange = {
  readonly values: GpuBuffer; // of the matrix
  readonly size: number; // how many
  readonly places: Int32Array; // no two alike
  readonly added: Float32Array;
};

export class GpuChanges {
  readonly #adding: LazySession;
  readonly #writing: LazySession;

  constructor(bus: BusCounter) {
    this.#adding = new LazySession(() => ({ model: changeGraph({ adds: true }), bus }));
    this.#writing = new LazySession(() => ({ model: changeGraph({ adds: false }), bus }));
  }

  /** @returns what puts the former values back */
  async add({ values, size, places, added }: MatrixChange): Promise<() => Promise<void>> {
    const [adding, writing] = [await this.#adding.get(), await this.#writing.get()];
    const matrix = values.view([size]);
    const at = int32Tensor(places, [places.length]);
    const feeds = { matrix, places: at, values: floatTensor(added, [places.length]) };
    const { before } = await adding.run(feeds, { changed: matrix });
    return async () => {
      await writing.run({ matrix, places: at, values: before! }, { changed: matrix });
    };
  }

  async close(): Promise<void> {
    await this.#adding.close();
    await this.#writing.close();
  }
}

function changeGraph({ adds }: { readonly adds: boolean }): Uint8Array {
  const graph = new GraphBuilder();
  graph.input("matrix", "float32", ["n"]);
  graph.input("places", "int32", ["m"]);
  graph.input("values", "float32", ["m"]);
  let values = "values";
  if (adds) {
    graph.node("Gather", ["matrix", "places"], { outputs: ["before"] });
    graph.output("before", "float32", ["m"]);
    [values] = graph.node("Add", ["before", "values"]) as [string];
  }
  graph.node("ScatterElements", ["matrix", "places", values], { outputs: ["changed"] });
  graph.output("changed", "float32", ["n"]);
  return graph.finish();
}
