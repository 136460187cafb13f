// node scripts/ship-adapter.ts FILE.tar DIR: makes a directory of models/tiny/adapters from a PEFT archive that the server
// gave (npm run demo-jobs -- --save): the weights in f16, which halves them, and the base's path in this repository.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { unpackArchive } from "../adapters-store/archives/unpack.ts";
import { float32ToFloat16 } from "../kernels/checkpoint/float16.ts";
import { openSafetensors } from "../kernels/checkpoint/safetensors.ts";
import { writeSafetensors } from "../kernels/checkpoint/write-safetensors.ts";
import { fail } from "./command-line.ts";

const [archive, directory] = process.argv.slice(2);
if (archive === undefined || directory === undefined)
  fail("usage: node scripts/ship-adapter.ts FILE.tar DIR");
const folder = mkdtempSync(join(tmpdir(), "cotenant-ship-"));
try {
  const files = await unpackArchive(archive, join(folder, "files"));
  const pathOf = (name: string) =>
    files.find((file) => file.name === name)?.path ?? fail(`${archive} holds no ${name}`);
  const config = JSON.parse(readFileSync(pathOf("adapter_config.json"), "utf8"));
  const weights = pathOf("adapter_model.safetensors");
  mkdirSync(directory, { recursive: true });
  const shipped = { ...config, base_model_name_or_path: "models/tiny" };
  writeFileSync(join(directory, "adapter_config.json"), `${JSON.stringify(shipped, null, 2)}\n`);
  using source = openSafetensors(weights);
  writeSafetensors(
    join(directory, "adapter_model.safetensors"),
    [...source.tensors].map(([name, { shape }]) => ({
      name,
      dtype: "F16",
      shape,
      pieces: () => [halved(source.readFloat32(name))],
    })),
  );
} finally {
  rmSync(folder, { recursive: true });
}

function halved(values: Float32Array): Uint16Array {
  const words = new Uint16Array(values.length);
  float32ToFloat16(values, words);
  return words;
}
