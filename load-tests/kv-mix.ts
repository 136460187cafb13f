// npm run bench:kv -- --model DIR: what keys and values cost on one checkpoint. Decode of sixteen short contexts
// beside fifteen short ones and one long one, and the time to the first token with and without a cached prefix; the
// two sides of each pair alternate in one process, medians are printed as one JSON line.

import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openBaseModel } from "../kernels/base-model.ts";
import { CpuRunner } from "../kernels/cpu/cpu-runner.ts";

const rows = 16;
const chunkTokens = 128;
const { values: options } = parseArgs({
  options: {
    model: { type: "string" },
    long: { type: "string", default: "2000" },
    short: { type: "string", default: "100" },
    prefix: { type: "string", default: "512" },
    steps: { type: "string", default: "24" },
    rounds: { type: "string", default: "5" },
    quantize: { type: "string", default: "int4" },
    threads: { type: "string", default: "0" },
    cache: { type: "string", default: join(tmpdir(), "cotenant-bench-cache") },
  },
});
const { model, quantize } = options;
if (model === undefined || (quantize !== "int4" && quantize !== "int8" && quantize !== "none")) {
  console.error(
    "npm run bench:kv -- --model DIR [--long N] [--short N] [--prefix N] [--steps N] [--rounds N] [--quantize int4|int8|none] [--threads N] [--cache DIR]",
  );
  process.exit(2);
}
const [long, short, prefix, rounds, steps] = [
  options.long,
  options.short,
  options.prefix,
  options.rounds,
  options.steps,
].map(Number) as [number, number, number, number, number];
const base = await openBaseModel({
  modelDirectory: model,
  cacheDirectory: options.cache,
  encoding: quantize === "none" ? "float32" : quantize,
  threads: Number(options.threads),
  onProgress() {},
});
const runnerOptions = { maxRows: rows, maxContext: base.config.maxPositions };

const shortRows = await openRows(Array(rows).fill(short));
const mixedRows = await openRows([long, ...Array(rows - 1).fill(short)]);
const decodeMs = await alternate(
  { rounds: steps, warmUp: 8 }, // the first steps move rows to where they will stay
  () => timeStep(shortRows),
  () => timeStep(mixedRows),
);
const prefixes = new CpuRunner(base, { ...runnerOptions, maxPrefixBytes: 1 << 30 });
const firstTokenMs = await alternate(
  { rounds, warmUp: 1 },
  (round) => timeToFirstToken(round, `cold ${round}`),
  async (round) => {
    if (round === 0) await timeToFirstToken(0, "warm");
    return timeToFirstToken(round + 1, "warm");
  },
);
console.log(
  JSON.stringify({
    bench: "kv",
    model: model.split("/").at(-1),
    quantize,
    decode: {
      short: { rows, tokens: short, msPerStep: decodeMs.first.typical },
      mixed: {
        rows,
        tokens: [long, short],
        msPerStep: decodeMs.second.typical,
        slowest: mixedRows.slowestMs,
      },
      speed: rounded(decodeMs.first.typical / decodeMs.second.typical),
    },
    firstToken: {
      prefixTokens: prefix,
      withoutMs: firstTokenMs.first.typical,
      withMs: firstTokenMs.second.typical,
      speedUp: rounded(firstTokenMs.first.typical / firstTokenMs.second.typical),
    },
    machine: `${cpus()[0]?.model ?? "?"} x${cpus().length}`,
    loadAverage: rounded(loadavg()[0]!),
    date: new Date().toISOString().slice(0, 10),
  }),
);
await base.close();

type Rows = { readonly runner: CpuRunner; readonly ids: readonly string[]; slowestMs: number };

async function openRows(lengths: readonly number[]): Promise<Rows> {
  const runner = new CpuRunner(base, runnerOptions);
  const ids = lengths.map((_, row) => `${row}`);
  for (const [row, length] of lengths.entries()) {
    runner.open(ids[row]!, { adapterVersion: null, prefix: null });
    await prefill(runner, ids[row]!, prompt(row, length));
  }
  return { runner, ids, slowestMs: 0 };
}

async function timeStep(open: Rows): Promise<number> {
  const entries = open.ids.map((sequence, row) => ({ sequence, tokenId: 10 + row }));
  const start = performance.now();
  await open.runner.decode(entries);
  const ms = performance.now() - start;
  open.slowestMs = Math.max(open.slowestMs, rounded(ms));
  return ms;
}

/** A prompt of a shared prefix and sixteen tokens of its own. */
async function timeToFirstToken(round: number, scope: string): Promise<number> {
  const tokenIds = [...prompt(0, prefix), ...prompt(round + 1, 16)];
  const start = performance.now();
  const { cachedTokens } = prefixes.open("one", { adapterVersion: null, prefix: { scope, tokenIds } });
  await prefill(prefixes, "one", tokenIds, cachedTokens);
  const ms = performance.now() - start;
  prefixes.close("one");
  return ms;
}

async function prefill(
  runner: CpuRunner,
  sequence: string,
  tokenIds: readonly number[],
  from = 0,
): Promise<void> {
  for (let at = from; at < tokenIds.length; at += chunkTokens) {
    const end = at + chunkTokens;
    await runner.prefill({
      sequence,
      tokenIds: tokenIds.slice(at, end),
      promptLength: tokenIds.length,
      logits: end >= tokenIds.length ? "last" : "none",
    });
  }
}

function prompt(seed: number, length: number): number[] {
  return Array.from({ length }, (_, index) => 10 + ((index * 7 + seed * 13) % 200));
}

type Side = { readonly typical: number };

async function alternate(
  { rounds, warmUp }: { readonly rounds: number; readonly warmUp: number },
  first: (round: number) => Promise<number>,
  second: (round: number) => Promise<number>,
): Promise<{ first: Side; second: Side }> {
  const times: [number[], number[]] = [[], []];
  for (let round = 0; round < warmUp + rounds; round++) {
    const pair = [await first(round), await second(round)] as const;
    if (round < warmUp) continue;
    times[0].push(pair[0]);
    times[1].push(pair[1]);
  }
  return { first: { typical: median(times[0]) }, second: { typical: median(times[1]) } };
}

function median(values: readonly number[]): number {
  return rounded(values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)]!);
}

function rounded(value: number): number {
  return Number(value.toPrecision(4));
}
