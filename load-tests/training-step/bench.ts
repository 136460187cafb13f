// npm run bench:training -- --model DIR --python PATH: one step of LoRA training (forward, loss, backward; no
// optimizer) here and by transformers + PEFT, in turns, each in a process of its own. Medians and peak memory.

import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { defaultWindowTokens } from "../../finetuning/largest-window.ts";
import { precisions } from "../../kernels/training/precision.ts";
import { defaultScheduling } from "../../scheduler/scheduling-options.ts";
import { CommandLine, fail } from "../../scripts/command-line.ts";
import { Side, type StepShape } from "./side.ts";

const usage = `npm run bench:training -- --model DIR --python PATH [flags]

  --model DIR        checkpoint; there, only its shape is used
  --python PATH      an interpreter with torch, transformers and peft
  --lengths LIST     tokens of the batch's sequences; the first half of each is a masked prompt (128,128,128,128)
  --rank R           on all linear layers (16)
  --threads N        (2)
  --steps N          of each (7)
  --dtype T          there: float32 or bfloat16 (float32)
  --quantization Q   of the base here: none, int8, int4 (none)
  --precision P      here, of products with the frozen matrices: float32 or int8 (float32)
  --memory-mib N     --training-memory-bytes here, of which a job takes what the server's would (the server's default)
  --window N         tokens of a unit here (the server's default)
  --cache-dir DIR    for the prepared base here (under the system's temporary directory)`;

const names = [
  "model",
  "python",
  "lengths",
  "rank",
  "threads",
  "steps",
  "dtype",
  "quantization",
  "precision",
];
const commandLine = new CommandLine(usage, [...names, "memory-mib", "window", "cache-dir"]);
const lengths = commandLine.string("lengths", "128,128,128,128").split(",").map(Number);
if (!lengths.every((length) => Number.isInteger(length) && length > 1))
  fail("--lengths must be whole, over 1");
const quantization = commandLine.string("quantization", "none");
const precision = commandLine.oneOf("precision", precisions);
const shape: StepShape = {
  model: commandLine.string("model"),
  lengths,
  rank: commandLine.whole("rank", 16),
  threads: commandLine.whole("threads", 2),
};
const dtype = commandLine.string("dtype", "float32");
const steps = commandLine.whole("steps", 7);
const tunedMalloc = join(import.meta.dirname, "../../server/glibc-malloc.js"); // as the server starts itself
const own = new Side(process.execPath, [tunedMalloc, join(import.meta.dirname, "own-step.ts")], {
  ...shape,
  memoryBytes: commandLine.whole("memory-mib", defaultScheduling.trainingMemoryBytes / 2 ** 20) * 2 ** 20,
  windowTokens: commandLine.whole("window", defaultWindowTokens),
  encoding: quantization === "none" ? "float32" : quantization,
  precision,
  cacheDirectory: commandLine.string("cache-dir", join(tmpdir(), "cotenant-bench-cache")),
});
const peft = new Side(commandLine.string("python"), [join(import.meta.dirname, "peft_step.py")], {
  ...shape,
  dtype,
});
const [plan] = await Promise.all([own.ready(), peft.ready()]);
for (let index = 0; index < steps; index++) {
  await own.step();
  await peft.step();
}
own.end();
peft.end();
const tokens = lengths.reduce((sum, length) => sum + length, 0);
const row = (name: string, { medianMs, peakBytes }: Side, rest = "") =>
  console.log(
    `${name.padEnd(24)} ${medianMs.toFixed(0).padStart(6)} ms  ${((tokens / medianMs) * 1000).toFixed(0).padStart(6)} tokens/s  ` +
      `peak ${(peakBytes / 2 ** 20).toFixed(0)} MiB${rest}`,
  );
console.log(
  `${cpus()[0]?.model.trim()}, ${shape.threads} threads, load ${loadavg()[0]!.toFixed(1)}, rank ${shape.rank}, lengths ${lengths}`,
);
row(`cotenant (${quantization}, ${precision})`, own, `, longest unit ${own.longestUnitMs.toFixed(0)} ms`);
const inMebibytes = (name: string) => `${(plan[name]! / 2 ** 20).toFixed(0)} MiB`;
console.log(
  `  windows of ${plan.windowTokens}; a job takes ${inMebibytes("jobBytes")}, keeps ${inMebibytes("keptBytes")}, has ${inMebibytes("widenedBytes")} for weights that stay widened`,
);
row(`PEFT (${dtype})`, peft);
console.log(
  `${(peft.medianMs / own.medianMs).toFixed(2)} times as fast, ${(own.peakBytes / peft.peakBytes).toFixed(2)} of the peak memory`,
);
