// Timed rounds on a device's runner: decode, prompts, swaps, and how far its log-probabilities are from the CPU's.

import type { AdapterTargets } from "../../kernels/adapter.ts";
import type { Logits, ModelRunner } from "../../kernels/model-runner.ts";
import { randomAdapter } from "../../kernels/random-adapter.ts";
import { leastQuery } from "../../kernels/sampling/logits-query.ts";
import { argmax, logSumExp } from "../../kernels/sampling/logprobs.ts";
import { median, type ReportPlan } from "./report-plan.ts";

const warmUpSteps = 2;
const chunkTokens = 128; // as the engine cuts prompts
const query = () => leastQuery;

export const versionOf = (index: number) => `adapter-${index}`;

export function addAdapters(runner: ModelRunner, targets: AdapterTargets, plan: ReportPlan): void {
  for (let index = 0; index < Math.max(...plan.adapters); index++) {
    runner.addAdapter(versionOf(index), randomAdapter(targets, plan.rank, index));
  }
}

async function read(runner: ModelRunner, sequence: string, tokens: number): Promise<void> {
  for (let at = 0; at < tokens; at += chunkTokens) {
    const tokenIds = idsOf(Math.min(chunkTokens, tokens - at));
    const logits = at + tokenIds.length === tokens ? "last" : "none";
    await runner.prefill({ sequence, tokenIds, promptLength: tokens, logits, query });
  }
}

const idsOf = (count: number) => Array.from({ length: count }, (_, index) => 10 + ((index * 7) % 200));

async function withRows<Result>(
  runner: ModelRunner,
  versions: readonly (string | null)[],
  use: (ids: readonly string[]) => Promise<Result>,
): Promise<Result> {
  const ids = versions.map((_, row) => `row-${row}`);
  for (const [row, id] of ids.entries()) runner.open(id, { adapterVersion: versions[row]!, prefix: null });
  try {
    return await use(ids);
  } finally {
    for (const id of ids) runner.close(id);
  }
}

const step = (runner: ModelRunner, ids: readonly string[]) =>
  runner.decode(ids.map((sequence) => ({ sequence, tokenId: 11, query })));

export type DecodeRound = {
  readonly rows: number;
  readonly adapters: number;
  readonly msPerStep: number;
  readonly tokensPerSecond: number;
  readonly busBytesPerStep: number;
};

export async function decodeRound(
  runner: ModelRunner,
  { rows, adapters }: { readonly rows: number; readonly adapters: number },
  { past, steps }: ReportPlan,
): Promise<DecodeRound> {
  const versions = Array.from({ length: rows }, (_, row) =>
    adapters === 0 ? null : versionOf(row % adapters),
  );
  return withRows(runner, versions, async (ids) => {
    for (const id of ids) await read(runner, id, past);
    for (let index = 0; index < warmUpSteps; index++) await step(runner, ids);
    const { busBytes } = runner.stats();
    const startMs = performance.now();
    for (let index = 0; index < steps; index++) await step(runner, ids);
    const msPerStep = (performance.now() - startMs) / steps;
    return {
      rows,
      adapters,
      msPerStep,
      tokensPerSecond: (rows * 1000) / msPerStep,
      busBytesPerStep: (runner.stats().busBytes - busBytes) / steps,
    };
  });
}

/** @returns tokens per second of one prompt that is read alone */
export async function prefillRound(
  runner: ModelRunner,
  version: string | null,
  { prompt, rounds }: ReportPlan,
): Promise<number> {
  const once = () => withRows(runner, [version], ([id]) => read(runner, id!, prompt));
  await once();
  const seconds: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const startMs = performance.now();
    await once();
    seconds.push((performance.now() - startMs) / 1000);
  }
  return prompt / median(seconds);
}

/** @returns what a step takes longer where its only row's adapter is new to the device, in milliseconds */
export async function swapRound(
  runner: ModelRunner,
  targets: AdapterTargets,
  plan: ReportPlan,
): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round <= plan.rounds; round++) {
    const version = `swapped-${round}`;
    runner.addAdapter(version, randomAdapter(targets, plan.rank, 1000 + round));
    const timed = async (use: () => Promise<unknown>) => {
      const startMs = performance.now();
      await use();
      return performance.now() - startMs;
    };
    await withRows(runner, [version], async ([id]) => {
      const first = await timed(async () => {
        await read(runner, id!, 1);
        await step(runner, [id!]);
      });
      times.push(first);
    });
    await withRows(runner, [version], async ([id]) => {
      const again = await timed(async () => {
        await read(runner, id!, 1);
        await step(runner, [id!]);
      });
      times[round] = times[round]! - again;
    });
    runner.removeAdapter(version);
  }
  return median(times.slice(1)); // the first one compiles
}

export type Parity = {
  readonly largestLogprobDifference: number;
  readonly sameTokens: number; // of the likeliest ones
  readonly comparedTokens: number;
};

/** Of a prompt's last token and of steps after it, for the base and an adapter. */
export async function parity(
  device: ModelRunner,
  cpu: ModelRunner,
  { past, steps }: ReportPlan,
): Promise<Parity> {
  let [largest, same, compared] = [0, 0, 0];
  const compare = (found: Logits, expected: Logits) => {
    const [one, other] = [found.data, expected.data];
    const [ownSum, otherSum] = [logSumExp(one), logSumExp(other)];
    for (let id = 0; id < one.length; id++) {
      const difference = Math.abs(one[id]! - ownSum - (other[id]! - otherSum));
      if (!(difference <= largest)) largest = difference;
    }
    compared++;
    if (argmax(one) === argmax(other)) same++;
  };
  for (const version of [null, versionOf(0)]) {
    const onBoth = async (
      run: (runner: ModelRunner, id: string) => Promise<Logits>,
      ids: readonly string[],
    ) => compare(await run(device, ids[0]!), await run(cpu, ids[0]!));
    await withRows(device, [version], (ids) =>
      withRows(cpu, [version], async () => {
        const tokenIds = idsOf(past);
        const chunk = { tokenIds, promptLength: past, logits: "last" } as const;
        await onBoth((runner, sequence) => runner.prefill({ sequence, ...chunk }), ids);
        for (let index = 0; index < steps; index++) {
          await onBoth((runner, sequence) => runner.decode([{ sequence, tokenId: 20 + index }]), ids);
        }
      }),
    );
  }
  return { largestLogprobDifference: largest, sameTokens: same, comparedTokens: compared };
}
