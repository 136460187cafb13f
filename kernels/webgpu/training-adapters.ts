// Adapters of passes under way, on the device: what a layer's graph reads of one goes there in one run. A pass that is
// given up may have a unit under way that still reads its own; no unit is when the next pass begins.

import { GraphBuilder } from "../onnx/graph-builder.ts";
import type { Feeds } from "../session.ts";
import type { AdapterPlace } from "../training/training-device.ts";
import type { BusCounter } from "./gpu-session.ts";
import { LazySession } from "./lazy-session.ts";
import type { Watch } from "./training-device.ts";

type View = Feeds[string];

export class GpuAdapterPlaces {
  readonly #bus: BusCounter;
  readonly #run: Watch;
  readonly #held = new Map<AdapterPlace, View[]>();
  readonly #released = new Set<AdapterPlace>();
  #upload: LazySession | null = null;

  constructor(bus: BusCounter, run: Watch) {
    this.#bus = bus;
    this.#run = run;
  }

  open(): AdapterPlace {
    this.#disposeReleased();
    const place: AdapterPlace = {
      put: (feeds) => this.#run(() => this.#put(feeds, place)),
      release: () => void this.#released.add(place),
    };
    this.#held.set(place, []);
    return place;
  }

  async close(): Promise<void> {
    for (const place of this.#held.keys()) this.#released.add(place);
    this.#disposeReleased();
    await this.#upload?.close();
  }

  async #put(feeds: Feeds, place: AdapterPlace): Promise<Feeds> {
    const copies = await (await this.#uploadOf(feeds).get()).run(feeds);
    const onDevice = Object.keys(feeds).map((name): [string, View] => [name, copies[copyOf(name)]!]);
    this.#held.get(place)!.push(...onDevice.map(([, tensor]) => tensor));
    return Object.fromEntries(onDevice);
  }

  /** A kernel's layers all have the same inputs. */
  #uploadOf(feeds: Feeds): LazySession {
    const keptOutput = Object.keys(feeds).map(copyOf);
    this.#upload ??= new LazySession(() => ({ model: copyGraph(feeds), bus: this.#bus, keptOutput }));
    return this.#upload;
  }

  #disposeReleased(): void {
    for (const place of this.#released) {
      for (const tensor of this.#held.get(place) ?? []) tensor.dispose();
      this.#held.delete(place);
    }
    this.#released.clear();
  }
}

const copyOf = (name: string) => `${name}.copy`;

function copyGraph(feeds: Feeds): Uint8Array {
  const graph = new GraphBuilder();
  for (const [name, { dims }] of Object.entries(feeds)) {
    const shape = dims.map((_, axis) => `${name}.${axis}`);
    graph.input(name, "float32", shape);
    graph.node("Mul", [name, graph.float(1)], { outputs: [copyOf(name)] });
    graph.output(copyOf(name), "float32", shape);
  }
  return graph.finish();
}
