// npm run swap-safety -- --minutes N: every completion equals its solo run while adapters are uploaded, updated in
// place, aliased, pinned, evicted and deleted, on a server of this checkout with too little memory for them all.

import { loadavg } from "node:os";
import { CommandLine, fail } from "../scripts/command-line.ts";
import { withEmbeddedServer } from "../scripts/embedded-server.ts";
import { HttpClient } from "./load/http-client.ts";
import { runHeader } from "./load/run-header.ts";
import { SoloAnswers } from "./swap-safety/answers.ts";
import { makeContents } from "./swap-safety/contents.ts";
import { complaints, runSwapSafety, type SwapReport } from "./swap-safety/run.ts";

const usage = `npm run swap-safety -- [flags]

  --minutes N   how long (10)
  --seconds N   instead of minutes
  --slots N     --device-slots of the server (4); names in use are N + 1 and 10 N by turns
  --cache N     --host-cache-bytes of the server (8000000, a few adapters)
  --clients N   requests at once (12)
  --seed N      of names, prompts and changes (1)`;

const commandLine = new CommandLine(usage, ["minutes", "seconds", "slots", "cache", "clients", "seed"]);
const slots = commandLine.whole("slots", 4);
const clients = commandLine.whole("clients", 12);
const seed = commandLine.whole("seed", 1);
const cacheBytes = commandLine.whole("cache", 8_000_000);
const seconds = commandLine.whole("seconds", 60 * commandLine.whole("minutes", 10));
if (slots < 1 || clients < 1 || seconds < 1) fail("--slots, --clients and the time must be at least 1");

const churners = 3;
const contents = makeContents(12 * slots);
let solos: SoloAnswers | null = null;
let report: SwapReport | null = null;
await withEmbeddedServer(["--log-level", "warn", "--prefix-cache-bytes", "0"], async (url) => {
  await using client = new HttpClient(url);
  const header = await runHeader(process.argv.slice(2), client);
  console.log(
    JSON.stringify({ ...header, command: `npm run swap-safety -- ${process.argv.slice(2).join(" ")}` }),
  );
  solos = await SoloAnswers.collect(client, contents);
});
console.log(`${contents.length} contents have answered alone; now for ${seconds} s of change`);
const flags = [
  "--log-level",
  "warn",
  "--device-slots",
  String(slots),
  "--host-cache-bytes",
  String(cacheBytes),
];
await withEmbeddedServer(flags, async (url) => {
  report = await runSwapSafety({
    ...{ url, slots, seconds, clients, churners, seed, contents, solos: solos! },
    onProgress: (now) => console.log(`${now.right} right, ${now.wrong.length} wrong`),
  });
});
console.log(JSON.stringify(report, null, 2));
const found = complaints(report!);
for (const complaint of found) console.log(`FAILED: ${complaint}`);
console.log(`${found.length === 0 ? "passed" : "failed"}; load average ${loadavg()[0]!.toFixed(1)}`);
process.exitCode = found.length === 0 ? 0 : 1;
