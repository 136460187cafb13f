// VeRA, arXiv 2310.11454: one random A and B for all modules, and two vectors of each: W += diag(b) B diag(d) A.

import { AdapterError } from "../../../kernels/errors.ts";
import { widthsOf } from "../module-places.ts";
import { Expansion } from "./expansion.ts";
import { configName } from "./fields.ts";
import { targetFields } from "./target-modules.ts";
import { groupProjections, type PeftAdapter, type PeftMethod, readTensor, weightsName } from "./tensors.ts";

export const vera: PeftMethod = {
  fields: [
    ...targetFields,
    "bias",
    "d_initial",
    "init_weights",
    "projection_prng_key",
    "r",
    "save_projection",
    "vera_dropout",
  ],

  decode(adapter, modules) {
    const { fields, targets } = adapter;
    if (fields.isSet("bias") && fields.raw("bias") !== "none") throw fields.unsupported("bias");
    const rank = fields.positive("r");
    const shared = readShared(adapter, rank);
    const expansion = new Expansion();
    const firstColumns = new Map<number, Float32Array<ArrayBuffer>>(); // of A, shared by modules of one input width
    const isShared = (name: string) => name === shared.a.name || name === shared.b.name;
    for (const module of groupProjections(adapter, ["vera_lambda_b", "vera_lambda_d"], isShared)) {
      const { path, place } = module;
      const width = widthsOf(place, targets);
      expansion.add(path, rank, { in: firstColumns.has(width.in) ? 0 : width.in, out: width.out });
      if (shared.a.width < width.in || shared.b.height < width.out) {
        throw new AdapterError(
          "adapter_wrong_shape",
          `${weightsName}: ${path} takes vera_A [${rank},${width.in}] and vera_B [${width.out},${rank}], but they are [${rank},${shared.a.width}] and [${shared.b.height},${rank}]; train the adapter on this base`,
        );
      }
      const lambdaB = module.read("vera_lambda_b", [width.out], "[out]");
      const lambdaD = module.read("vera_lambda_d", [rank], "[rank]");
      const a = firstColumns.get(width.in) ?? columnsOf(shared.a, width.in);
      firstColumns.set(width.in, a);
      const b = new Float32Array(width.out * rank);
      for (let i = 0; i < b.length; i++) {
        b[i] = lambdaB[Math.floor(i / rank)]! * shared.b.values[i]! * lambdaD[i % rank]!;
      }
      modules.addLowRank(place, { path, rank, a, b, scale: 1 });
    }
  },
};

type SharedA = { readonly name: string; readonly width: number; readonly values: Float32Array };

function readShared({ file }: PeftAdapter, rank: number) {
  const find = (matrix: "A" | "B") => {
    const name = [`base_model.vera_${matrix}`, `base_model.vera_${matrix}.default`].find((one) =>
      file.tensors.has(one),
    );
    if (name !== undefined) return { name, shape: file.tensors.get(name)!.shape };
    throw new AdapterError(
      "adapter_tensor_missing",
      `${weightsName} has no base_model.vera_${matrix}, and ${configName}'s projection_prng_key cannot stand for it: the numbers depend on PyTorch; save the adapter with save_projection=True`,
    );
  };
  const [a, b] = [find("A"), find("B")];
  const width = a.shape[1] ?? 0;
  const height = b.shape[0] ?? 0;
  const valuesA = readTensor(file, a.name, { shape: [rank, width], axes: "[rank, in]" });
  const valuesB = readTensor(file, b.name, { shape: [height, rank], axes: "[out, rank]" });
  return { a: { name: a.name, width, values: valuesA }, b: { name: b.name, height, values: valuesB } };
}

function columnsOf({ width, values }: SharedA, count: number): Float32Array<ArrayBuffer> {
  const rows = values.length / width;
  const result = new Float32Array(rows * count);
  for (let row = 0; row < rows; row++) {
    result.set(values.subarray(row * width, row * width + count), row * count);
  }
  return result;
}
