// npm run gpu-report: what the engine does on this machine's graphics processor through WebGPU, beside transformers +
// PEFT where a Python with them is at hand, as JSON. Weights are random: speed does not depend on them.

import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { cpus, loadavg, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { findGpu } from "../kernels/devices/find-gpu.ts";
import type { Quantization } from "../scheduler/protocol.ts";
import { encodings } from "../scheduler/quantization.ts";
import { CommandLine, fail } from "../scripts/command-line.ts";
import { makeModel } from "../scripts/make-model.ts";
import { modelShapes } from "../scripts/model-shapes.ts";
import { fixedTable } from "./fixed-table.ts";
import { deviceBandwidth } from "./gpu-report/device-bandwidth.ts";
import { fullPlan, smokePlan } from "./gpu-report/report-plan.ts";
import { type ShapeReport, shapeReport } from "./gpu-report/shape-report.ts";

const usage = `npm run gpu-report -- [flags]

  --shapes LIST      of ${Object.keys(modelShapes).join(", ")} (smollm2-135m,qwen2.5-0.5b,llama-3.2-1b)
  --plan NAME        full, or smoke: a few steps, which also a software adapter does in minutes (full)
  --quantization Q   of the base here: none, f16, int8, int4 (int4); PEFT computes in bfloat16, or float32 on a CPU
  --python PATH      an interpreter that may have torch, transformers and peft (python3)
  --out FILE         (gpu-report.json)
  --cache-dir DIR    for models and prepared weights (under the system's temporary directory)`;

const commandLine = new CommandLine(usage, ["shapes", "plan", "quantization", "python", "out", "cache-dir"]);
const names = commandLine.string("shapes", "smollm2-135m,qwen2.5-0.5b,llama-3.2-1b").split(",");
const unknown = names.find((name) => !Object.hasOwn(modelShapes, name));
if (unknown !== undefined) fail(`--shapes: ${unknown} is unknown\n\n${usage}`);
const planName = commandLine.string("plan", "full");
if (planName !== "full" && planName !== "smoke") fail(`--plan must be full or smoke, not ${planName}`);
const plan = planName === "full" ? fullPlan : smokePlan;
const quantization = commandLine.string("quantization", "int4");
if (!isQuantization(quantization))
  fail(`--quantization must be none, f16, int8 or int4, not ${quantization}`);
const cacheDirectory = commandLine.string("cache-dir", join(tmpdir(), "cotenant-gpu-report"));
const out = commandLine.string("out", "gpu-report.json");
mkdirSync(cacheDirectory, { recursive: true });

const gpu = findGpu();
const bandwidth = await deviceBandwidth(plan);
const shapes: Record<string, ShapeReport> = {};
for (const name of names as (keyof typeof modelShapes)[]) {
  const modelDirectory = join(cacheDirectory, name);
  if (!existsSync(join(modelDirectory, "model.safetensors"))) {
    makeModel({ shape: modelShapes[name], directory: modelDirectory, seed: 0 });
  }
  const python = commandLine.string("python", "python3");
  shapes[name] = await shapeReport({
    modelDirectory,
    cacheDirectory,
    quantize: quantization,
    bandwidth,
    python,
    plan,
  });
  print(name, shapes[name]);
}
const machine = {
  gpu: gpu.name ?? `WebGPU's default adapter (${gpu.reason})`,
  cpu: cpus()[0]?.model.trim() ?? "",
  cores: cpus().length,
  memoryBytes: totalmem(),
  platform: `${process.platform} ${process.arch}`,
  node: process.version,
  loadAverage: loadavg()[0]!,
};
const date = new Date().toISOString();
const command = ["npm run gpu-report --", ...process.argv.slice(2)].join(" ");
const report = { date, command, machine, quantization, plan: { name: planName, ...plan }, bandwidth, shapes };
writeFileSync(out, `${JSON.stringify(report, null, 2)}\n`);
console.log(`${machine.gpu}; ${(bandwidth / 1e9).toFixed(1)} GB/s when it copies; ${out}`);

function isQuantization(name: string): name is Quantization {
  return Object.hasOwn(encodings, name);
}

function print(name: string, { parity, decode, halves, prefill, swapMs, ...report }: ShapeReport): void {
  const { training, coServing, peft, goals } = report;
  const share = (value: number) => `${(value * 100).toFixed(0)}%`;
  console.log(name);
  console.log(
    `  parity with the CPU: ${parity.largestLogprobDifference.toExponential(1)}, ${parity.sameTokens} of ${parity.comparedTokens} likeliest tokens the same`,
  );
  for (const { rows, adapters, tokensPerSecond, bandwidthShare, busBytesPerStep } of decode) {
    console.log(
      `  ${rows} rows, ${adapters} adapters: ${tokensPerSecond.toFixed(0)} tokens/s, ${share(bandwidthShare)} of the bandwidth, ${busBytesPerStep.toFixed(0)} bytes cross`,
    );
  }
  console.log(
    "reason" in halves
      ? `  f16: ${halves.reason}`
      : `  f16, ${halves.rows} rows without adapters: ${halves.tokensPerSecond.toFixed(0)} tokens/s`,
  );
  console.log(
    `  prompts: ${prefill.base.toFixed(0)} tokens/s, with an adapter ${prefill.adapter.toFixed(0)}; a swap: ${swapMs.toFixed(1)} ms`,
  );
  console.log(
    "reason" in training
      ? `  training: ${training.reason}`
      : `  training: ${training.tokensPerSecond.toFixed(0)} tokens/s`,
  );
  console.log(
    "reason" in coServing
      ? `  co-serving: ${coServing.reason}`
      : `  co-serving, ${coServing.rows} rows: ${coServing.capacity.toFixed(2)} requests/s alone; at half of it training keeps ${share(coServing.trainingShare)} of its ${coServing.trainingAlone.toFixed(0)} tokens/s, ${share(coServing.inTime)} of ${coServing.requests} requests in time`,
  );
  if ("reason" in peft) console.log(`  PEFT: ${peft.reason}`);
  const rows = goals.map(({ name: goal, measured, wanted, met }) => [
    goal,
    measured === null ? "not measured" : measured.toFixed(2),
    "atLeast" in wanted ? `at least ${wanted.atLeast}` : `at most ${wanted.atMost}`,
    met === null ? "" : met ? "met" : "missed",
  ]);
  console.log(fixedTable(["goal", "measured", "wanted", ""], rows));
}
