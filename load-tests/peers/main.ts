// npm run peers: Cotenant beside what a user would pick instead, on the same random checkpoint, bits and machine, by
// the load generator's clock. Contestants take turns in every cell and round; the table goes to stdout.

import { mkdirSync, writeFileSync } from "node:fs";
import { fail } from "../../scripts/command-line.ts";
import { UsageError } from "../load/option-values.ts";
import { machineHeader } from "../load/run-header.ts";
import { readBandwidth } from "../memory-bandwidth.ts";
import { isFor, mostClients, warmUpOf } from "./cells.ts";
import type { Bits, Converted, Served } from "./contestant.ts";
import { type ContestantName, contestants, ours } from "./contestants/index.ts";
import { convert } from "./convert.ts";
import { installAll } from "./install/install-all.ts";
import { measure, warmUp } from "./measure.ts";
import { type Options, readOptions, usage } from "./options.ts";
import { joined, type Result, type Run, type RunHeader } from "./results.ts";
import { requireSameModel } from "./same-model.ts";
import { markdown } from "./table.ts";

const threads = 2; // of every contestant

if (import.meta.main) {
  try {
    await main(process.argv.slice(2));
  } catch (error) {
    if (error instanceof UsageError) fail(`${error.message}\nnpm run peers -- --help lists the flags`);
    throw error;
  }
}

async function main(args: readonly string[]): Promise<void> {
  const options = readOptions(args);
  if (options === null) return void process.stdout.write(usage);
  if (options.joined.length > 0) return report(joined(options.joined), options);
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));
  mkdirSync(options.prefix, { recursive: true });
  installAll(options.contestants, options.prefix);
  const header = await headerOf(args, options.tree);
  const settings: Record<string, string> = {};
  const results: Result[] = [];
  const save = () => writeRun({ headers: [header], settings, results }, options);
  for (const shape of options.shapes) {
    const converted = convert(shape, options.prefix);
    if (options.check) {
      const job = { ...options, converted, clients: 1 };
      for (const line of await requireSameModel(job, options.contestants)) console.log(`${shape}, ${line}`);
      continue;
    }
    for (const bits of options.bits) await measureAll(options, { converted, bits, results, settings, save });
  }
  if (!options.check) report({ headers: [header], settings, results }, options);
}

type Place = {
  readonly converted: Converted;
  readonly bits: Bits;
  readonly results: Result[];
  readonly settings: Record<string, string>;
  readonly save: () => void;
};

/** All servers are up at once and idle but for the one that is asked. */
async function measureAll(options: Options, place: Place): Promise<void> {
  const { converted, bits, results, settings, save } = place;
  const { shape } = converted;
  const running = new Map<ContestantName, Served>();
  try {
    let tokensPerWord: number | null = null;
    for (const name of options.contestants) {
      const served = await contestants[name].serve({ ...options, converted, bits, clients: mostClients });
      running.set(name, served);
      settings[`${name}, ${bits} bits`] = served.setting;
      const counted = await warmUp(served);
      tokensPerWord ??= counted;
      if (counted !== tokensPerWord) throw new Error(`${name} reads other tokens: ${counted} for each word`);
    }
    const unmeasured = { seed: options.rounds, tokensPerWord: tokensPerWord! };
    for (const served of running.values()) {
      for (const cell of options.cells.filter((cell) => isFor(cell, served)))
        await measure(warmUpOf(cell), served, unmeasured);
    }
    for (let round = 0; round < options.rounds; round++) {
      for (const cell of options.cells) {
        for (const [contestant, served] of running) {
          if (!isFor(cell, served)) continue;
          const sample = await measure(cell, served, { seed: round, tokensPerWord: tokensPerWord! });
          results.push({ shape, bits, cell, contestant, round, ...sample });
          const speed = sample.figures[cell.figure].toFixed(1);
          console.error(`${shape} ${bits} bits, round ${round}, ${cell.name}, ${contestant}: ${speed}`);
        }
        save(); // a run that is broken off has measured something
      }
    }
  } finally {
    for (const served of running.values()) await served.stop();
  }
}

function writeRun(run: Run, { jsonFile }: Options): void {
  if (jsonFile !== null) writeFileSync(jsonFile, `${JSON.stringify(run, null, 1)}\n`);
}

function report(run: Run, options: Options): void {
  writeRun(run, options);
  process.stdout.write(markdown(run, ours));
}

async function headerOf(args: readonly string[], tree: string): Promise<RunHeader> {
  return {
    ...machineHeader(tree),
    command: ["npm run peers --", ...args].join(" "),
    readBytesPerSecond: await readBandwidth(threads),
  };
}
