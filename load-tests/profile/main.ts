// npm run profile: where a step's time goes. The session's by operator, from the runtime's own profiler, and the
// engine's around it, by sampling its thread. Either profiler costs time of its own: `npm run bench` has the speed.

import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { projections } from "../../kernels/adapter.ts";
import { describeCheckpoint } from "../../kernels/base-model.ts";
import type { Quantization } from "../../scheduler/protocol.ts";
import { CommandLine } from "../../scripts/command-line.ts";
import type { BenchSetting } from "../bench/bench-setting.ts";
import { machineHeader } from "../load/run-header.ts";
import { profileEngine } from "./engine-profile.ts";
import { engineReport, sessionReport } from "./profile-report.ts";
import { profileSession } from "./session-side.ts";

const usage = `npm run profile -- --model DIR [flags]

  --model DIR    checkpoint of the base
  --rows N       sequences in the batch (8)
  --adapters K   how many different adapters; row i uses adapter i mod K; 0 = base alone (0)
  --rank R       of the adapters, on all projections (16)
  --past P       prompt tokens before the decode steps (100, so that the steps stay within one KV bucket)
  --steps N      decode steps that are measured (24)
  --prefill T    the reading of a prompt of T tokens instead of decode steps
  --part PART    session, engine or both (both)
  --quantize Q   int4, int8 or none (int4)
  --threads N    0 = all cores (0)
  --cache DIR    prepared weights
  --json FILE    all of it, as JSON`;

const sizes = ["rows", "adapters", "rank", "past", "steps", "prefill", "threads"];
const commandLine = new CommandLine(usage, [...sizes, "model", "part", "quantize", "cache", "json"]);
const prefillTokens = commandLine.whole("prefill", 0);
const kind = prefillTokens > 0 ? "prefill" : "decode";
const setting: BenchSetting = {
  model: commandLine.string("model"),
  cache: commandLine.string("cache", join(tmpdir(), "cotenant-bench-cache")),
  quantize: commandLine.oneOf<Quantization>("quantize", ["int4", "int8", "none"]),
  threads: commandLine.whole("threads", 0),
  rows: kind === "prefill" ? 1 : commandLine.whole("rows", 8),
  adapters: commandLine.whole("adapters", 0),
  rank: commandLine.whole("rank", 16),
  projections,
  past: kind === "prefill" ? prefillTokens : commandLine.whole("past", 100),
  steps: commandLine.whole("steps", 24),
};
const part = commandLine.oneOf("part", ["both", "session", "engine"]);
const jsonFile = commandLine.string("json", "-");

const header = machineHeader();
const { layers } = describeCheckpoint(setting.model).config;
const of =
  kind === "prefill" ? `of ${setting.past} tokens` : `${setting.rows} rows past ${setting.past} tokens`;
const adapters =
  setting.adapters === 0 ? "no adapters" : `${setting.adapters} adapters of rank ${setting.rank}`;
console.log(`${kind} ${of}, ${adapters}; ${basename(setting.model)}, ${setting.quantize}`);
console.log(
  `${header.machine}; commit ${header.commit}; load average ${header.loadAverage.toFixed(1)}; ${header.startedAt}\n`,
);
const session = part === "engine" ? null : await profileSession(kind, setting);
if (session !== null) console.log(sessionReport(session, layers));
const engine = part === "session" ? null : await profileEngine(kind, setting);
if (engine !== null) console.log(engineReport(engine));
if (jsonFile !== "-") {
  writeFileSync(
    jsonFile,
    `${JSON.stringify({ ...header, kind, setting, layers, session, engine }, null, 2)}\n`,
  );
}
