// Dense blocks on chosen input channels as the trained values. To passes a block is a low-rank module whose A picks
// the channels and does not move.

import { type AdapterTargets, type ChannelsModule, projections } from "../../kernels/adapter.ts";
import type { LowRankParameters, TrainedModule } from "../../kernels/training/low-rank-parameters.ts";
import { layerSegments } from "./low-rank/low-rank-trainable.ts";
import type { BackpropTrainable, Segment, State } from "./method.ts";

export type ChannelsPlace = Pick<ChannelsModule, "layer" | "projection" | "channels">;

type Block = ChannelsPlace & { readonly a: Float32Array; readonly from: number; readonly to: number };

export class ChannelsTrainable implements BackpropTrainable {
  readonly flat: Float32Array<ArrayBuffer>; // each place's block in turn, [channels, out]
  readonly segments: readonly Segment[];
  readonly #blocks: readonly Block[];

  constructor(targets: AdapterTargets, places: readonly ChannelsPlace[]) {
    let at = 0;
    this.#blocks = inOrder(places).map((place) => {
      const shape = targets.shapes[place.projection];
      const from = at;
      at += place.channels.length * shape.out;
      return { ...place, a: picking(place.channels, shape.in), from, to: at };
    });
    this.flat = new Float32Array(at);
    this.segments = layerSegments(this.#blocks.map(({ layer, from, to }) => [layer, to - from]));
  }

  /** Takes over the values of modules at the same places. */
  begin(modules: readonly ChannelsModule[]): void {
    for (const [index, { b }] of inOrder(modules).entries()) this.flat.set(b, this.#blocks[index]!.from);
  }

  modules(values: Float32Array = this.flat): readonly TrainedModule[] {
    return this.#blocks.map(({ layer, projection, channels, a, from, to }) => ({
      layer,
      projection,
      rank: channels.length,
      scale: 1,
      a,
      b: values.subarray(from, to),
    }));
  }

  addGradient(layer: number, ofModules: LowRankParameters, gradient: Float32Array): void {
    for (const [index, { layer: own, from, to }] of this.#blocks.entries()) {
      if (own !== layer) continue;
      const { b } = ofModules.modules[index]!;
      for (let i = from; i < to; i++) gradient[i]! += b[i - from]!;
    }
  }

  *served(): Generator<ChannelsModule, void, void> {
    for (const { layer, projection, channels, from, to } of this.#blocks) {
      yield { kind: "channels", layer, projection, channels: channels.slice(), b: this.flat.slice(from, to) };
    }
  }

  state(): State {
    return { values: {}, arrays: { channels: this.#allChannels() } };
  }

  /** Channels follow from the seed or the adapter: a state only confirms them. */
  restore({ arrays: { channels } }: State): void {
    const own = this.#allChannels();
    if (channels?.length !== own.length || own.some((channel, index) => channels[index] !== channel)) {
      throw new RangeError("the checkpoint is of other channels");
    }
  }

  #allChannels(): Uint32Array<ArrayBuffer> {
    return Uint32Array.from(this.#blocks.flatMap(({ channels }) => [...channels]));
  }
}

function inOrder<Place extends ChannelsPlace>(places: readonly Place[]): Place[] {
  return places.toSorted(
    (one, other) =>
      one.layer - other.layer || projections.indexOf(one.projection) - projections.indexOf(other.projection),
  );
}

/** One row per channel, with a one at the channel. [channels, in] */
function picking(channels: Uint32Array, width: number): Float32Array {
  const rows = new Float32Array(channels.length * width);
  for (const [row, channel] of channels.entries()) rows[row * width + channel] = 1;
  return rows;
}
