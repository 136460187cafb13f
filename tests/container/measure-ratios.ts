// Prints how small ComPEFT makes adapters: their values at 16 bits to the whole container and, in brackets, the whole
// file to the whole container.
//
//   node tests/container/measure-ratios.ts MODEL_DIRECTORY ADAPTER_DIRECTORY...

import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import { basename } from "node:path";
import { compress } from "../../adapters-store/compress/compress.ts";
import { inspectAdapter } from "../../adapters-store/decode-adapter.ts";
import { claimFiles } from "../../adapters-store/formats/index.ts";
import { describeCheckpoint } from "../../kernels/base-model.ts";
import { adapterTargets } from "../../kernels/model-family.ts";

const [model, ...directories] = process.argv.slice(2);
if (model === undefined || directories.length === 0) {
  throw new Error("give a model's directory and those of adapters on it");
}
const targets = adapterTargets(describeCheckpoint(model).config);
const fingerprint = createHash("sha256").update(model).digest("hex"); // takes its room, whatever it is of
const densities = [1, 0.5, 0.2, 0.1, 0.05, 0.01];

console.log(`| adapter | modules | values | bytes | ${densities.join(" | ")} |`);
console.log(`|${" --- |".repeat(4 + densities.length)}`);
for (const directory of directories) {
  const job = { directory, files: claimFiles(readdirSync(directory)), targets, baseFingerprint: fingerprint };
  const { adapter, version, files } = inspectAdapter(job);
  const fileBytes = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const source = { adapter, base: { targets, fingerprint }, parents: [version], metadata: {} };
  const packed = densities.map((density) => compress(source, { method: "compeft", density }));
  const cells = packed.map(
    ({ container, ratio }) => `${ratio.toFixed(2)} (${(fileBytes / container.length).toFixed(2)})`,
  );
  const { length: modules } = adapter.modules;
  const values = packed[0]!.sixteenBitBytes / 2;
  console.log(`| ${basename(directory)} | ${modules} | ${values} | ${fileBytes} | ${cells.join(" | ")} |`);
}
