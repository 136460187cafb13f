// A decoded module into the form that a container holds, and from there to what a reader will make of it.

import { type AdapterModule, type AdapterTargets, moduleArrays } from "../../kernels/adapter.ts";
import { type Encoding, encodeFloats } from "../codecs/encode-floats.ts";
import { encodeGaps } from "../codecs/gaps.ts";
import { type FloatCodecName, floatCodecs } from "../codecs/index.ts";
import { kindLayouts } from "./module-layouts.ts";
import type { EncodedModule, EncodedTensor } from "./write-container.ts";

/** Every tensor of floats in one encoding; indices as gaps. Throws AdapterError `codec_out_of_range`. */
export function encodeModule(
  module: AdapterModule,
  encoding: Encoding,
  targets: AdapterTargets,
): EncodedModule {
  const layout = kindLayouts[module.kind];
  const own = ownLength(module);
  const place = {
    layer: "layer" in module ? module.layer : null,
    projection: "projection" in module ? module.projection : null,
  };
  const widths = place.projection === null ? { in: 1, out: 1 } : targets.shapes[place.projection];
  const tensors = moduleArrays(module).map(([name, array]): [string, EncodedTensor] => {
    const shape = layout.tensors[name]!.shape({ ...widths, own, targets });
    if (array instanceof Uint32Array) return [name, { codec: "gaps", shape, bytes: encodeGaps(array) }];
    return [name, { codec: encoding.codec, shape, bytes: encodeFloats(array, encoding, shape[0]!) }];
  });
  // A decoded module has its scale inside.
  return { kind: module.kind, ...place, own, scale: 1, tensors: Object.fromEntries(tensors) };
}

/** The module that a reader will get. */
export function decodeAgain(module: AdapterModule, encoded: EncodedModule): AdapterModule {
  const arrays = new Map(moduleArrays(module));
  const floats = (name: string) => {
    const { codec, shape, bytes } = encoded.tensors[name]!;
    const context = { rows: shape[0]!, ledger: { bytes: new Uint8Array(0), first: 0 } };
    return floatCodecs[codec as FloatCodecName].decode(bytes, arrays.get(name)!.length, context);
  };
  return kindLayouts[module.kind].build(encoded, encoded.own, {
    floats,
    optionalFloats: (name) => (arrays.has(name) ? floats(name) : null),
    indices: (name) => arrays.get(name) as Uint32Array<ArrayBuffer>, // stored without loss
  });
}

function ownLength(module: AdapterModule): number {
  switch (module.kind) {
    case "channels":
      return module.channels.length;
    case "sparse":
      return module.values.length;
    case "scale":
      return 1;
    case "soft-prompt":
    case "prefix":
      return module.tokens;
    case "low-rank":
    case "embedding":
    case "head":
      return module.rank;
  }
}
