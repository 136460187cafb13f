// Rows with different adapters in one batch against the same requests alone, over adapter popularity, kinds, ranks,
// targets and layers, with and without prefix reuse, with rows that join and leave at random steps. The base's
// output survives all of it bit for bit.

import assert from "node:assert/strict";
import { test } from "node:test";
import { CpuRunner } from "../kernels/cpu/cpu-runner.ts";
import { prefixBlockTokens } from "../kernels/cpu/prefix-cache.ts";
import { assignSlots } from "../kernels/cpu/slot-sharing.ts";
import { adapterTargets } from "../kernels/model-family.ts";
import type { Logits } from "../kernels/model-runner.ts";
import { referenceForward } from "../kernels/reference/forward.ts";
import { tolerances } from "../kernels/reference/tolerances.ts";
import { randomAt } from "../kernels/sampling/random.ts";
import {
  distance,
  goldenCase,
  logitRow,
  logSoftmax,
  openGolden,
  temporaryCache,
} from "./golden/golden-case.ts";
import { randomAdapter, randomAdapterCount } from "./golden/random-adapters.ts";
import { openReference } from "./golden/reference-model.ts";

const adapterCount = randomAdapterCount;

type Random = () => number;
const randomFrom = (seed: number): Random => {
  let draws = 0;
  return () => randomAt(seed, draws++);
};

const versionOf = (index: number) => `adapter-${index}`;

/** Which adapter each of a test's requests names; null is the base. */
const popularity = {
  identical: () => versionOf(1),
  distinct: (request: number) => (request % 11 === 10 ? null : versionOf(request % adapterCount)),
  uniform: (_, random) => pick(random, Array<number>(adapterCount + 1).fill(1)),
  zipf: (_, random) =>
    pick(
      random,
      Array.from({ length: adapterCount + 1 }, (__, rank) => 1 / (rank + 1)),
    ),
  skewed: (request: number) => (request % 7 === 3 ? null : request % 7 === 5 ? versionOf(4) : versionOf(9)),
} as const satisfies Record<string, (request: number, random: Random) => string | null>;

/** Adapter by weight; the last weight is the base's. */
function pick(random: Random, weights: readonly number[]): string | null {
  let point = random() * weights.reduce((sum, weight) => sum + weight, 0);
  const index = weights.findIndex((weight) => {
    point -= weight;
    return point < 0;
  });
  return index === weights.length - 1 ? null : versionOf(index);
}

type Request = {
  readonly id: string;
  readonly version: string | null;
  readonly prompt: readonly number[];
  readonly text: readonly number[]; // decoded after the prompt, given so that a difference cannot spread
  readonly joinStep: number;
  readonly scope: string | null; // of the prefix cache; null = without it
};

type Mode = {
  readonly pattern: keyof typeof popularity;
  readonly reuse: boolean; // whether prompts begin alike, and take from the prefix cache what was computed before
};

function randomRequests({ pattern, reuse }: Mode): Request[] {
  const random = randomFrom(Object.keys(popularity).indexOf(pattern));
  const tokens = (count: number) => Array.from({ length: count }, () => 4 + Math.floor(random() * 150));
  const shared = reuse ? tokens(prefixBlockTokens) : [];
  return Array.from({ length: 22 }, (_, index) => ({
    id: `${pattern}-${index}`,
    scope: reuse ? "everybody" : null,
    version: popularity[pattern](index, random),
    prompt: [...shared, ...tokens(1 + Math.floor(random() * 20))],
    text: tokens(4 + Math.floor(random() * 8)),
    joinStep: index < 13 ? 0 : Math.floor(random() * 8),
  }));
}

const cacheDirectory = temporaryCache();
const maxRows = 16;

for (const name of ["llama", "gemma3"]) {
  test(name, async (t) => {
    const golden = goldenCase(name);
    const { base } = await openGolden(golden, { cacheDirectory });
    const runner = new CpuRunner(base, { maxRows, maxContext: 512, maxPrefixBytes: 2 ** 26 });
    const baseBefore = await runAlone(runner, baseRequest);
    for (let index = 0; index < adapterCount; index++) {
      runner.addAdapter(versionOf(index), randomAdapter(adapterTargets(base.config), index));
    }
    const rowsPerSlot = new Set<number>();
    for (const pattern of Object.keys(popularity) as (keyof typeof popularity)[]) {
      for (const reuse of [false, true]) {
        await t.test(`${pattern}${reuse ? ", with prefix reuse" : ""}`, async () => {
          const requests = randomRequests({ pattern, reuse });
          const before = runner.stats().prefixHitTokens;
          const { logprobs, mostRows } = await runTogether(runner, requests, rowsPerSlot);
          assert.ok(mostRows >= 12, `only ${mostRows} rows were ever in one step`);
          // Whoever comes after another with the same adapter finds its block, unless that has a soft prompt in front.
          const again = requests.length - new Set(requests.map(({ version }) => version)).size;
          const found = (runner.stats().prefixHitTokens - before) / prefixBlockTokens;
          if (reuse) assert.ok(found >= again / 2, `${found} of ${again} prefixes were reused`);
          else assert.equal(found, 0);
          for (const request of requests) {
            const alone = await runAlone(runner, { ...request, scope: null });
            const batched = logprobs.get(request.id)!;
            assert.equal(batched.length, alone.length);
            for (const [step, expected] of alone.entries()) {
              const worst = distance(batched[step]!, expected);
              assert.ok(
                worst <= tolerances.batchedLogprobs,
                `${request.id} (${request.version}), step ${step}: ${worst}`,
              );
            }
          }
        });
      }
    }
    await t.test("one row per slot and several were both in use", () => {
      assert.ok(rowsPerSlot.has(1));
      assert.ok([...rowsPerSlot].some((rows) => rows > 1));
    });
    await t.test("adapters change the output", async () => {
      for (let index = 0; index < adapterCount; index++) {
        const changed = await runAlone(runner, { ...baseRequest, version: versionOf(index) });
        assert.ok(distance(changed.at(-1)!, baseBefore.at(-1)!) > 0.02, versionOf(index));
      }
    });
    await t.test("alone, they agree with the reference forward pass", async () => {
      using reference = openReference(golden.directory);
      const tokenIds = [...baseRequest.prompt, ...baseRequest.text];
      for (let index = 0; index < adapterCount; index++) {
        const expected = referenceForward(
          reference,
          tokenIds,
          randomAdapter(adapterTargets(base.config), index),
        );
        const found = await runAlone(runner, { ...baseRequest, version: versionOf(index) });
        const wanted = expected.slice(baseRequest.prompt.length - 1);
        for (const [step, logits] of wanted.entries()) {
          const worst = distance(found[step]!, logSoftmax(Float32Array.from(logits)));
          assert.ok(worst <= tolerances.forwardLogits, `${versionOf(index)}, step ${step}: ${worst}`);
        }
      }
    });
    await t.test(
      "base output is bit-identical while adapters are used and after they are removed",
      async () => {
        const neighbours = randomRequests({ pattern: "distinct", reuse: false }).filter(
          ({ version }) => version !== null,
        );
        const { logprobs } = await runTogether(runner, [baseRequest, ...neighbours], rowsPerSlot);
        assert.deepEqual(logprobs.get(baseRequest.id), baseBefore);
        for (let index = 0; index < adapterCount; index++) runner.removeAdapter(versionOf(index));
        assert.deepEqual(await runAlone(runner, baseRequest), baseBefore);
      },
    );
    await runner.dispose();
  });
}

const baseRequest: Request = {
  id: "base",
  version: null,
  prompt: [5, 90, 33, 12, 151, 7, 64],
  text: [40, 8, 99, 120, 17, 31],
  joinStep: 0,
  scope: null,
};

/** Log-probabilities after the prompt and after each token of the text. */
async function runAlone(runner: CpuRunner, request: Request): Promise<Float64Array[]> {
  const found = [await join(runner, request)];
  for (const tokenId of request.text) {
    const logits = await runner.decode([{ sequence: request.id, tokenId }]);
    found.push(logSoftmax(logitRow(logits, 0)));
  }
  runner.close(request.id);
  return found;
}

/** Reads the prompt in whole blocks, as the engine does, less those that the prefix cache has. */
async function join(runner: CpuRunner, request: Request): Promise<Float64Array> {
  const { id, version, prompt, scope } = request;
  const prefix = scope === null ? null : { scope, tokenIds: prompt };
  const { cachedTokens } = runner.open(id, { adapterVersion: version, prefix });
  let logits: Logits | null = null;
  for (let at = cachedTokens; at < prompt.length; at += prefixBlockTokens) {
    const tokenIds = prompt.slice(at, at + prefixBlockTokens);
    logits = await runner.prefill({
      sequence: id,
      tokenIds,
      promptLength: prompt.length,
      logits: at + prefixBlockTokens < prompt.length ? "none" : "last",
    });
  }
  return logSoftmax(logitRow(logits!, 0));
}

/** The same for many requests: each joins at its step, or when a row is free, and leaves when its text ends. */
async function runTogether(runner: CpuRunner, requests: readonly Request[], rowsPerSlot: Set<number>) {
  const logprobs = new Map<string, Float64Array[]>();
  const waiting = requests.toSorted((a, b) => a.joinStep - b.joinStep);
  let running: Request[] = [];
  let mostRows = 0;
  for (let step = 0; waiting.length > 0 || running.length > 0; step++) {
    while (waiting.length > 0 && waiting[0]!.joinStep <= step && running.length < maxRows) {
      const request = waiting.shift()!;
      logprobs.set(request.id, [await join(runner, request)]);
      running.splice(step % (running.length + 1), 0, request); // not always the last row
    }
    if (running.length === 0) continue;
    mostRows = Math.max(mostRows, running.length);
    rowsPerSlot.add(assignSlots(running.map(({ version }) => version)).rowsPerSlot);
    const entries = running.map(({ id, text }) => ({
      sequence: id,
      tokenId: text[logprobs.get(id)!.length - 1]!,
    }));
    const logits = await runner.decode(entries);
    for (const [row, { id }] of running.entries()) logprobs.get(id)!.push(logSoftmax(logitRow(logits, row)));
    const ended = ({ id, text }: Request) => logprobs.get(id)!.length > text.length;
    for (const request of running) if (ended(request)) runner.close(request.id);
    running = running.filter((request) => !ended(request));
  }
  return { logprobs, mostRows };
}
