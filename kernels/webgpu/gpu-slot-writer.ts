// Copies an adapter's slots into those of a bank, on the device and in place: one run for a kind, over all layers.

import { GraphBuilder } from "../onnx/graph-builder.ts";
import { type Feeds, indexTensor, int32Tensor } from "../session.ts";
import type { SlotLayers } from "./gpu-adapter.ts";
import type { BusCounter, GpuBuffer } from "./gpu-session.ts";
import type { SlotArray, SlotKind } from "./gpu-slot-kinds.ts";
import { LazySession } from "./lazy-session.ts";

export type SlotCopy = {
  readonly from: SlotLayers;
  readonly to: SlotLayers;
  readonly capacity: number; // slots of `to`
  readonly places: readonly number[]; // where each slot of `from` goes
};

export class SlotWriter {
  readonly #kind: SlotKind;
  readonly #session: LazySession;

  constructor(kind: SlotKind, bus: BusCounter) {
    this.#kind = kind;
    this.#session = new LazySession(() => ({ model: copyGraph(kind), bus }));
  }

  async write({ from, to, capacity, places }: SlotCopy): Promise<void> {
    const feeds: Feeds = { places: int32Tensor(Int32Array.from(places), [places.length, 1]) };
    const into: Feeds = {};
    for (const [name, array, layer, index] of named(this.#kind)) {
      const source = from[layer]![index]!;
      const target = to[layer]![index]!;
      feeds[`source.${name}`] = matrix(array, source.buffer, [places.length, source.width]);
      const place = matrix(array, target.buffer, [capacity, target.width]);
      feeds[`target.${name}`] = place;
      into[`written.${name}`] = place;
      if (array.varies) {
        feeds[`pads.${name}`] = indexTensor([0, 0, 0, target.width - source.width], [4]);
        feeds[`width.${name}`] = indexTensor([1, target.width], [2]);
      }
      if (array.stride !== undefined) {
        const stride = array.stride(to[layer]!.map(({ width }) => width));
        const offsets = Int32Array.from(places, (place) => place * stride);
        feeds[`offsets.${name}`] = int32Tensor(offsets, [places.length, 1]);
      }
    }
    await (await this.#session.get()).run(feeds, into);
  }

  async close(): Promise<void> {
    await this.#session.close();
  }
}

function named(kind: SlotKind) {
  return Array.from({ length: kind.layers }, (_, layer) =>
    kind.arrays.map((array, index) => [`${layer}.${index}`, array, layer, index] as const),
  ).flat();
}

function matrix({ type }: SlotArray, buffer: GpuBuffer, dims: readonly number[]): Feeds[string] {
  return type === "int32" ? buffer.words(dims) : buffer.view(dims);
}

function copyGraph(kind: SlotKind): Uint8Array {
  const graph = new GraphBuilder();
  graph.input("places", "int32", ["n", 1]);
  for (const [name, array] of named(kind)) addCopy(graph, name, array);
  return graph.finish();
}

/** A slot that is wider than what comes is filled up with zeros. */
function addCopy(graph: GraphBuilder, name: string, { type, width, varies, stride }: SlotArray): void {
  const wide = varies ? `W.${name}` : width;
  graph.input(`target.${name}`, type, [`capacity.${name}`, wide]);
  graph.input(`source.${name}`, type, ["n", varies ? `w.${name}` : width]);
  let source = `source.${name}`;
  let shape = graph.integers([1, width]);
  if (varies) {
    graph.input(`pads.${name}`, "int64", [4]);
    shape = graph.input(`width.${name}`, "int64", [2]);
    [source] = graph.node("Pad", [source, `pads.${name}`]) as [string];
  }
  if (stride !== undefined) {
    graph.input(`offsets.${name}`, "int32", ["n", 1]);
    [source] = graph.node("Add", [source, `offsets.${name}`]) as [string];
  }
  const [index] = graph.node("Expand", ["places", shape]);
  graph.node("ScatterElements", [`target.${name}`, index!, source], {
    outputs: [`written.${name}`],
    attributes: { axis: 0 },
  });
  graph.output(`written.${name}`, type, [`capacity.${name}`, wide]);
}
