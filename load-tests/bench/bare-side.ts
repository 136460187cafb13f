// The session alone on a bench's inputs: what it takes without masks, sampling and messages.

import { type BaseModel, openBaseModel, plainProfile } from "../../kernels/base-model.ts";
import { CpuRunner } from "../../kernels/cpu/cpu-runner.ts";
import { prefixBlockTokens } from "../../kernels/cpu/prefix-cache.ts";
import { TokenPairs } from "../../kernels/cpu/token-pairs.ts";
import { adapterTargets } from "../../kernels/model-family.ts";
import { encodings } from "../../scheduler/quantization.ts";
import { adaptersOf, type BenchSetting, promptOf, type Round, versionOf } from "./bench-setting.ts";

export type BareSide = {
  readonly runner: CpuRunner;
  readonly vocabSize: number;
  readonly logitRowsOf: (rows: number) => number; // that a run makes for so many
  /** @returns how the profile's path begins, where there is one */
  readonly endProfiling: () => string | null;
};

/** @param profilePrefix where the runtime's profile goes; without it there is none */
export function openBase(setting: BenchSetting, profilePrefix?: string): Promise<BaseModel> {
  return openBaseModel({
    modelDirectory: setting.model,
    cacheDirectory: setting.cache,
    encoding: encodings[setting.quantize],
    threads: setting.threads,
    plainGraphBytes: setting.plainGraphBytes,
    onProgress: () => undefined,
    ...(profilePrefix === undefined ? {} : { profilePrefix }),
  });
}

/** @param profilePrefix where the runtime's profile goes; without it there is none */
export async function openBare(setting: BenchSetting, profilePrefix?: string): Promise<BareSide> {
  const base = await openBase(setting, profilePrefix);
  const runner = new CpuRunner(base, { maxRows: setting.rows, maxContext: base.config.maxPositions });
  for (const [version, adapter] of adaptersOf(setting, adapterTargets(base.config))) {
    runner.addAdapter(version, adapter);
  }
  const pairs = new TokenPairs(base);
  return {
    runner,
    vocabSize: base.config.vocabSize,
    logitRowsOf: (rows) => pairs.count(rows),
    endProfiling() {
      if (profilePrefix === undefined) return null;
      const isPlain = setting.adapters === 0 && base.plainSession !== null;
      (isPlain ? base.plainSession : base.session).endProfiling();
      return `${isPlain ? plainProfile(profilePrefix) : profilePrefix}_`;
    },
  };
}

const warmUpSteps = 2;

export async function bareDecode(runner: CpuRunner, setting: BenchSetting): Promise<Round> {
  const ids = Array.from({ length: setting.rows }, (_, row) => `${row}`);
  for (const [row, id] of ids.entries()) await readPrompt(runner, setting, { id, row, logits: "none" });
  const entries = ids.map((sequence, row) => ({ sequence, tokenId: 10 + row }));
  for (let step = 0; step < warmUpSteps; step++) await runner.decode(entries);
  const before = runner.stats().sessionMs;
  for (let step = 0; step < setting.steps; step++) await runner.decode(entries);
  const ms = runner.stats().sessionMs - before;
  for (const id of ids) runner.close(id);
  const tokens = setting.steps * setting.rows;
  return { tokensPerSecond: (tokens * 1000) / ms, msPerStep: ms / setting.steps, outside: 0 };
}

export async function barePrefill(runner: CpuRunner, setting: BenchSetting): Promise<Round> {
  const before = runner.stats().sessionMs;
  await readPrompt(runner, setting, { id: "0", row: 0, logits: "last" });
  const ms = runner.stats().sessionMs - before;
  runner.close("0");
  return { tokensPerSecond: (setting.past * 1000) / ms, msPerStep: ms, outside: 0 };
}

type OpenRow = { readonly id: string; readonly row: number; readonly logits: "none" | "last" };

/** In the chunks that the engine cuts. */
async function readPrompt(runner: CpuRunner, setting: BenchSetting, { id, row, logits }: OpenRow) {
  runner.open(id, { adapterVersion: versionOf(setting, row), prefix: null });
  const prompt = promptOf(setting, row);
  for (let start = 0; start < prompt.length; start += prefixBlockTokens) {
    const tokenIds = prompt.slice(start, start + prefixBlockTokens);
    const isLast = start + prefixBlockTokens >= prompt.length;
    await runner.prefill({
      sequence: id,
      tokenIds,
      promptLength: prompt.length,
      logits: isLast ? logits : "none",
    });
  }
}
