// npm run bench -- decode|prefill: the engine's speed on one checkpoint, beside a bare session on the same graph.
// Engine and bare rounds alternate in one process; medians are printed as one JSON line. Ratios between runs of
// this on a shared machine mean more than the figures themselves.

import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { projections } from "../kernels/adapter.ts";
import { bareDecode, barePrefill, openBare } from "./bench/bare-side.ts";
import type { BenchSetting, Round } from "./bench/bench-setting.ts";
import { engineDecode, enginePrefill, openEngine } from "./bench/engine-side.ts";
import { guard } from "./guard/guard.ts";
import { machineHeader } from "./load/run-header.ts";
import { readBandwidth } from "./memory-bandwidth.ts";

const usage = `npm run bench -- decode|prefill --model DIR [options]
npm run bench -- --guard [--update]

  --guard        compares node counts, bytes of a step and the session's share with load-tests/guard/baseline.json,
                 on the embedded model; fails on a step back. --update writes what is measured as the new baseline

  --rows N       sequences in the batch (8)
  --adapters K   how many different adapters; row i uses adapter i mod K; 0 = base alone (0)
  --rank R       of the adapters (16)
  --targets T    what the adapters change: some of q,k,v,o,gate,up,down (all)
  --past N       prompt tokens (100, so that a round stays within one KV bucket); for prefill, the prompt that is
                 measured (256)
  --steps N      measured decode steps per round (24)
  --rounds N     rounds of engine and bare session (5)
  --quantize Q   int4, int8 or none (int4)
  --threads N    0 = all cores (0)
  --cache DIR    prepared weights`;

type Bench = BenchSetting & { readonly kind: "decode" | "prefill"; readonly rounds: number };

const command = readCommandLine();
if (command.guarded) process.exitCode = (await guard(command)) ? 0 : 1;
else await measure(command.bench);

async function measure(bench: Bench): Promise<void> {
  const readBytesPerSecond = await readBandwidth(bench.threads || availableParallelism());
  const engineRounds: Round[] = [];
  const bareRounds: Round[] = [];
  const engine = await openEngine(bench);
  const { runner } = await openBare(bench);
  for (let round = 0; round <= bench.rounds; round++) {
    const isDecode = bench.kind === "decode";
    const fromEngine = await (isDecode ? engineDecode(engine, bench) : enginePrefill(engine, bench));
    const fromBare = await (isDecode ? bareDecode(runner, bench) : barePrefill(runner, bench));
    if (round === 0) continue; // warm-up
    engineRounds.push(fromEngine);
    bareRounds.push(fromBare);
  }
  await runner.dispose();
  await engine.close();
  console.log(
    JSON.stringify({
      bench: bench.kind,
      model: bench.model.split("/").at(-1),
      quantize: bench.quantize,
      rows: bench.rows,
      adapters: bench.adapters,
      rank: bench.adapters === 0 ? null : bench.rank,
      targets: bench.adapters === 0 ? null : bench.projections.join(),
      past: bench.past,
      engine: median(engineRounds),
      bareSession: median(bareRounds),
      engineToBare: rounded(median(engineRounds).tokensPerSecond / median(bareRounds).tokensPerSecond),
      ...machineHeader(),
      memoryGigabytesPerSecond: rounded(readBytesPerSecond / 1e9),
    }),
  );
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

type Command =
  | { readonly guarded: true; readonly update: boolean; readonly bench: null }
  | { readonly guarded: false; readonly update: false; readonly bench: Bench };

function readCommandLine(): Command {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      guard: { type: "boolean", default: false },
      update: { type: "boolean", default: false },
      model: { type: "string" },
      rows: { type: "string", default: "8" },
      adapters: { type: "string", default: "0" },
      rank: { type: "string", default: "16" },
      targets: { type: "string", default: projections.join() },
      past: { type: "string" },
      steps: { type: "string", default: "24" },
      rounds: { type: "string", default: "5" },
      quantize: { type: "string", default: "int4" },
      threads: { type: "string", default: "0" },
      cache: { type: "string", default: join(tmpdir(), "cotenant-bench-cache") },
    },
  });
  if (values.guard) return { guarded: true, update: values.update, bench: null };
  const kind = positionals[0];
  const quantize = values.quantize;
  const known = kind === "decode" || kind === "prefill";
  const encodings = quantize === "int4" || quantize === "int8" || quantize === "none";
  if (!known || values.update || positionals.length !== 1 || values.model === undefined || !encodings) {
    console.error(usage);
    process.exit(2);
  }
  const whole = (name: "rows" | "adapters" | "rank" | "steps" | "rounds" | "threads", least: number) => {
    const value = Number(values[name]);
    if (Number.isInteger(value) && value >= least) return value;
    console.error(`--${name} must be a whole number of at least ${least}\n\n${usage}`);
    process.exit(2);
  };
  const named = values.targets.split(",");
  const chosen = projections.filter((projection) => named.includes(projection));
  if (chosen.length !== named.length) {
    console.error(`--targets must be some of ${projections.join()}\n\n${usage}`);
    process.exit(2);
  }
  const bench: Bench = {
    kind,
    model: values.model,
    rows: whole("rows", 1),
    adapters: whole("adapters", 0),
    rank: whole("rank", 1),
    projections: chosen,
    past: Number(values.past ?? (kind === "decode" ? 100 : 256)),
    steps: whole("steps", 1),
    rounds: whole("rounds", 1),
    quantize,
    threads: whole("threads", 0),
    cache: values.cache,
  };
  return { guarded: false, update: false, bench };
}
