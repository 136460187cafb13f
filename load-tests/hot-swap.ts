// npm run hot-swap -- --model DIR: what it costs to bring an adapter from host memory into device slots, beside a
// plain copy of the same bytes. Copy and swap take turns on adapters that no processor cache holds; medians.

import { cpus, loadavg } from "node:os";
import { moduleArrays } from "../kernels/adapter.ts";
import { adapterSites } from "../kernels/adapter-sites.ts";
import { describeCheckpoint } from "../kernels/base-model.ts";
import { AdapterBank } from "../kernels/cpu/adapter-bank.ts";
import { adapterTargets } from "../kernels/model-family.ts";
import { randomAdapter } from "../kernels/random-adapter.ts";
import { SiteAdapter } from "../kernels/site-adapter.ts";
import { CommandLine, fail } from "../scripts/command-line.ts";

const usage = `npm run hot-swap -- --model DIR [flags]

  --model DIR   checkpoint, of which only the shapes are used
  --rank R      of the adapters, on all projections (16)
  --slots N     adapters that are in slots at once (8)
  --rounds N    swaps that are measured (200)`;

const commandLine = new CommandLine(usage, ["model", "rank", "slots", "rounds"]);
const rank = commandLine.whole("rank", 16);
const slots = commandLine.whole("slots", 8);
const rounds = commandLine.whole("rounds", 200);
if (rank < 1 || slots < 1 || rounds < 1) fail("--rank, --slots and --rounds must be at least 1");

const targets = adapterTargets(describeCheckpoint(commandLine.string("model")).config);
const decoded = Array.from({ length: 2 * slots }, (_, seed) => randomAdapter(targets, rank, seed));
const adapters = new Map(decoded.map((adapter, index) => [`${index}`, new SiteAdapter(adapter, targets)]));
const moduleBytes = decoded[0]!.modules
  .flatMap(moduleArrays)
  .reduce((sum, [, { byteLength }]) => sum + byteLength, 0);
const arraysOf = new Map([...adapters].map(([version, adapter]) => [version, siteArrays(adapter)]));
const floats = arraysOf.get("0")!.reduce((sum, { length }) => sum + length, 0);
const copyTarget = new Float32Array(floats);

const bank = new AdapterBank(targets);
const order = [...adapters.keys()];
const copiesOf = (versions: readonly string[]) => versions.map((version) => ({ version, copy: 0 }));
const timesMs = { copy: [] as number[], swap: [] as number[] };

let held = order.slice(0, slots);
bank.hold(copiesOf(held), adapters);
for (let round = -slots; round < rounds; round++) {
  const next = order[(round + 2 * slots) % order.length]!;
  if (held.includes(next)) continue;
  const copied = order[(round + 3 * slots + 1) % order.length]!;
  const isCopyFirst = round % 2 === 0;
  if (isCopyFirst) copy(copied, round);
  held = [...held.slice(1), next]; // the oldest leaves: its places are anywhere among the others'
  const swapMs = timed(() => bank.hold(copiesOf(held), adapters));
  if (!isCopyFirst) copy(copied, round);
  if (round >= 0) timesMs.swap.push(swapMs); // before that it warms up
}

const copyMs = median(timesMs.copy);
console.log(
  JSON.stringify({
    bench: "hot-swap",
    rank,
    slots,
    moduleMebibytes: rounded(moduleBytes / 2 ** 20),
    slotMebibytes: rounded((4 * floats) / 2 ** 20), // a fused site's ranks span all of its outputs
    copyMs: rounded(copyMs),
    copyGigabytesPerSecond: rounded((4 * floats) / copyMs / 1e6),
    swapMs: rounded(median(timesMs.swap)),
    swapToCopy: rounded(median(timesMs.swap) / copyMs),
    machine: `${cpus()[0]?.model ?? "?"} x${cpus().length}`,
    loadAverage: rounded(loadavg()[0]!),
    date: new Date().toISOString().slice(0, 10),
  }),
);

function copy(version: string, round: number): void {
  const ms = timed(() => {
    let at = 0;
    for (const array of arraysOf.get(version)!) {
      copyTarget.set(array, at);
      at += array.length;
    }
  });
  if (round >= 0) timesMs.copy.push(ms);
}

/** What lies in slots of an adapter. */
function siteArrays(adapter: SiteAdapter): Float32Array[] {
  return adapterSites(targets).flatMap((site) =>
    Array.from({ length: site.layers }, (_, layer) => adapter.stack(layer, site.name)).flatMap(({ a, b }) => [
      a,
      b,
    ]),
  );
}

function timed(work: () => void): number {
  const startMs = performance.now();
  work();
  return performance.now() - startMs;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

function rounded(value: number): number {
  return Number(value.toPrecision(3));
}
