// npm run bench -- decode|prefill: the engine's speed on one checkpoint, beside a bare session on the same graph.
// Engine and bare rounds alternate in one process; medians are printed as one JSON line. Ratios between runs of
// this on a shared machine mean more than the figures themselves.

import { execFileSync } from "node:child_process";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openBaseModel } from "../kernels/base-model.ts";
import { CpuRunner } from "../kernels/cpu/cpu-runner.ts";
import { adapterTargets } from "../kernels/model-family.ts";
import { randomAdapter } from "../kernels/random-adapter.ts";
import { greedySampling } from "../kernels/sampling/sampler.ts";
import type { Engine } from "../scheduler/engine.ts";
import { startEngine } from "../scheduler/engine-client.ts";
import type { GenerationRequest, Quantization } from "../scheduler/protocol.ts";
import { defaultScheduling } from "../scheduler/scheduling-options.ts";

const usage = `npm run bench -- decode|prefill --model DIR [options]

  --rows N       sequences in the batch (8)
  --adapters K   how many different adapters; row i uses adapter i mod K; 0 = base alone (0)
  --rank R       of the adapters, on all projections (16)
  --past N       prompt tokens (150, so that a round stays within one KV bucket); for prefill, the prompt that is
                 measured (256)
  --steps N      measured decode steps per round (24)
  --rounds N     rounds of engine and bare session (5)
  --quantize Q   int4, int8 or none (int4)
  --threads N    0 = all cores (0)
  --cache DIR    prepared weights`;

type Bench = {
  readonly kind: "decode" | "prefill";
  readonly model: string;
  readonly rows: number;
  readonly adapters: number;
  readonly rank: number;
  readonly past: number;
  readonly steps: number;
  readonly rounds: number;
  readonly quantize: Quantization;
  readonly threads: number;
  readonly cache: string;
};

/** Seconds and tokens of one round; outside is the share of the loop's time that the session did not run. */
type Round = { readonly tokensPerSecond: number; readonly msPerStep: number; readonly outside: number };

const bench = readCommandLine();
const engineRounds: Round[] = [];
const bareRounds: Round[] = [];
const engine = await startEngine(
  {
    modelDirectory: bench.model,
    cacheDirectory: bench.cache,
    device: "cpu",
    quantize: bench.quantize,
    maxRows: bench.rows,
    maxContext: 0,
    threads: bench.threads,
    scheduling: { ...defaultScheduling, prefixCacheBytes: 0 }, // rounds repeat their prompts
  },
  () => undefined,
);
const versions = Array.from({ length: bench.adapters }, (_, index) => `adapter-${index}`);
for (const [index, version] of versions.entries()) {
  await engine.addAdapter(version, randomAdapter(engine.model.targets, bench.rank, index));
}
const bare = await openBare();
for (let round = 0; round <= bench.rounds; round++) {
  const fromEngine =
    bench.kind === "decode" ? await engineDecode(engine, round) : await enginePrefill(engine, round);
  const fromBare = bench.kind === "decode" ? await bareDecode(bare) : await barePrefill(bare);
  if (round === 0) continue; // warm-up
  engineRounds.push(fromEngine);
  bareRounds.push(fromBare);
}
await bare.dispose();
await engine.close();
console.log(
  JSON.stringify({
    bench: bench.kind,
    model: bench.model.split("/").at(-1),
    quantize: bench.quantize,
    rows: bench.rows,
    adapters: bench.adapters,
    rank: bench.adapters === 0 ? null : bench.rank,
    past: bench.past,
    engine: median(engineRounds),
    bareSession: median(bareRounds),
    engineToBare: rounded(median(engineRounds).tokensPerSecond / median(bareRounds).tokensPerSecond),
    machine: `${cpus()[0]?.model ?? "?"} x${cpus().length}`,
    loadAverage: rounded(loadavg()[0]!),
    commit: commit(),
    date: new Date().toISOString().slice(0, 10),
  }),
);

function request(id: string, row: number, maxTokens: number): GenerationRequest {
  return {
    id,
    tenant: { id: "bench", weight: 1, rowsAtOnce: null },
    priority: 0,
    timeoutMs: null,
    promptTokenIds: prompt(row),
    adapterVersion: versions.length === 0 ? null : versions[row % versions.length]!,
    blend: null,
    sampling: greedySampling,
    maxTokens,
    minTokens: 0,
    stopTokenIds: [],
    ignoreEos: true,
    logprobs: null,
    promptLogprobs: null,
  };
}

function prompt(row: number): number[] {
  return Array.from({ length: bench.past }, (_, index) => 10 + ((index * 7 + row * 13) % 200));
}

/** Full batches only: the clock starts when every row decodes and stops when the first one is done. */
async function engineDecode(engine: Engine, round: number): Promise<Round> {
  const warmUp = 2;
  const tokens = Array<number>(bench.rows).fill(0);
  const marks: { start?: ReturnType<typeof mark>; end?: ReturnType<typeof mark> } = {};
  const mark = () => ({ ms: performance.now(), stats: engine.stats });
  // Rows that are prefilled early get enough tokens to still decode when the last one joins.
  const extra = (row: number) => (bench.rows - row) * Math.ceil(bench.past / 128 + 1);
  await Promise.all(
    tokens.map(async (_, row) => {
      const total = bench.steps + warmUp + 8 + extra(row);
      for await (const event of engine.generate(request(`${round}-${row}`, row, total))) {
        if (event.type !== "token") continue;
        tokens[row] = tokens[row]! + 1;
        const last = tokens[bench.rows - 1]!;
        if (row !== bench.rows - 1) continue;
        if (last === warmUp) marks.start = mark();
        if (last === warmUp + bench.steps) marks.end = mark();
      }
    }),
  );
  const { start, end } = marks;
  if (start === undefined || end === undefined) throw new Error("the round was too short to measure");
  const steps = end.stats.steps - start.stats.steps;
  const stepSeconds = end.stats.stepSeconds - start.stats.stepSeconds;
  const sessionSeconds = end.stats.sessionSeconds - start.stats.sessionSeconds;
  const ms = end.ms - start.ms;
  return {
    tokensPerSecond: (bench.steps * bench.rows * 1000) / ms,
    msPerStep: ms / bench.steps,
    outside: steps === 0 ? Number.NaN : 1 - sessionSeconds / stepSeconds,
  };
}

async function enginePrefill(engine: Engine, round: number): Promise<Round> {
  const start = performance.now();
  const stats = engine.stats;
  for await (const _ of engine.generate(request(`${round}-0`, 0, 1))) {
    // the first token ends it
  }
  const ms = performance.now() - start;
  await new Promise((resolve) => setTimeout(resolve, 20)); // the last statistics follow the last token
  const session = (engine.stats.sessionSeconds - stats.sessionSeconds) * 1000;
  return { tokensPerSecond: (bench.past * 1000) / ms, msPerStep: ms, outside: 1 - session / ms };
}

async function openBare(): Promise<CpuRunner> {
  const base = await openBaseModel({
    modelDirectory: bench.model,
    cacheDirectory: bench.cache,
    encoding: bench.quantize === "none" ? "float32" : bench.quantize,
    threads: bench.threads,
    onProgress: () => undefined,
  });
  const runner = new CpuRunner(base, { maxRows: bench.rows, maxContext: base.config.maxPositions });
  for (const [index, version] of versions.entries()) {
    runner.addAdapter(version, randomAdapter(adapterTargets(base.config), bench.rank, index));
  }
  return runner;
}

/** The session's own time on the same inputs: no masks, no sampling, no messages in it. */
async function bareDecode(runner: CpuRunner): Promise<Round> {
  const ids = Array.from({ length: bench.rows }, (_, row) => `${row}`);
  for (const [row, id] of ids.entries()) {
    runner.open(id, { adapterVersion: request(id, row, 1).adapterVersion, prefix: null });
    await runner.prefill({ sequence: id, tokenIds: prompt(row), promptLength: bench.past, logits: "none" });
  }
  const entries = ids.map((sequence, row) => ({ sequence, tokenId: 10 + row }));
  for (let step = 0; step < 2; step++) await runner.decode(entries);
  const before = runner.stats().sessionMs;
  for (let step = 0; step < bench.steps; step++) await runner.decode(entries);
  const ms = runner.stats().sessionMs - before;
  for (const id of ids) runner.close(id);
  return { tokensPerSecond: (bench.steps * bench.rows * 1000) / ms, msPerStep: ms / bench.steps, outside: 0 };
}

async function barePrefill(runner: CpuRunner): Promise<Round> {
  runner.open("0", { adapterVersion: request("0", 0, 1).adapterVersion, prefix: null });
  const before = runner.stats().sessionMs;
  await runner.prefill({ sequence: "0", tokenIds: prompt(0), promptLength: bench.past, logits: "last" });
  const ms = runner.stats().sessionMs - before;
  runner.close("0");
  return { tokensPerSecond: (bench.past * 1000) / ms, msPerStep: ms, outside: 0 };
}

function median(rounds: readonly Round[]): Round {
  const middle = (pick: (round: Round) => number) => {
    const sorted = rounds.map(pick).sort((a, b) => a - b);
    return rounded(sorted[Math.floor(sorted.length / 2)]!);
  };
  return {
    tokensPerSecond: middle((round) => round.tokensPerSecond),
    msPerStep: middle((round) => round.msPerStep),
    outside: middle((round) => round.outside),
  };
}

function rounded(value: number): number {
  return Number(value.toPrecision(4));
}

function commit(): string {
  try {
    return execFileSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8" }).trim();
  } catch {
    return "unknown";
  }
}

function readCommandLine(): Bench {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      model: { type: "string" },
      rows: { type: "string", default: "8" },
      adapters: { type: "string", default: "0" },
      rank: { type: "string", default: "16" },
      past: { type: "string" },
      steps: { type: "string", default: "24" },
      rounds: { type: "string", default: "5" },
      quantize: { type: "string", default: "int4" },
      threads: { type: "string", default: "0" },
      cache: { type: "string", default: join(tmpdir(), "cotenant-bench-cache") },
    },
  });
  const kind = positionals[0];
  const quantize = values.quantize;
  const known = kind === "decode" || kind === "prefill";
  const encodings = quantize === "int4" || quantize === "int8" || quantize === "none";
  if (!known || positionals.length !== 1 || values.model === undefined || !encodings) {
    console.error(usage);
    process.exit(2);
  }
  const whole = (name: "rows" | "adapters" | "rank" | "steps" | "rounds" | "threads", least: number) => {
    const value = Number(values[name]);
    if (Number.isInteger(value) && value >= least) return value;
    console.error(`--${name} must be a whole number of at least ${least}\n\n${usage}`);
    process.exit(2);
  };
  return {
    kind,
    model: values.model,
    rows: whole("rows", 1),
    adapters: whole("adapters", 0),
    rank: whole("rank", 1),
    past: Number(values.past ?? (kind === "decode" ? 150 : 256)),
    steps: whole("steps", 1),
    rounds: whole("rounds", 1),
    quantize,
    threads: whole("threads", 0),
    cache: values.cache,
  };
}
