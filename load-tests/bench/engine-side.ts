// The engine with its thread, scheduler, sampling and messages on a bench's inputs.

import type { Engine } from "../../scheduler/engine.ts";
import { startEngine } from "../../scheduler/engine-client.ts";
import type { EngineOptions } from "../../scheduler/protocol.ts";
import { defaultScheduling } from "../../scheduler/scheduling-options.ts";
import { adaptersOf, type BenchSetting, type Round, requestOf } from "./bench-setting.ts";

/** @param changes of the options that follow from the setting */
export async function openEngine(
  setting: BenchSetting,
  changes: Partial<EngineOptions> = {},
): Promise<Engine> {
  const engine = await startEngine(
    {
      modelDirectory: setting.model,
      cacheDirectory: setting.cache,
      device: "cpu",
      quantize: setting.quantize,
      maxRows: setting.rows,
      maxContext: 0,
      threads: setting.threads,
      plainGraphBytes: setting.plainGraphBytes,
      scheduling: { ...defaultScheduling, prefixCacheBytes: 0 }, // rounds repeat their prompts
      ...changes,
    },
    () => undefined,
  );
  for (const [version, adapter] of adaptersOf(setting, engine.model.targets)) {
    await engine.addAdapter(version, adapter);
  }
  return engine;
}

/** What was measured, and when: microseconds of the monotonic clock. */
export type EngineRound = Round & { readonly startUs: number; readonly endUs: number };

/** Full batches only: the clock starts when every row decodes and stops when the first one is done. */
export async function engineDecode(engine: Engine, setting: BenchSetting): Promise<EngineRound> {
  const { rows, steps, past } = setting;
  const warmUp = 2;
  const marks: { start?: Mark; end?: Mark } = {};
  // Rows that are prefilled early get enough tokens to still decode when the last one joins.
  const extra = (row: number) => (rows - row) * Math.ceil(past / 128 + 1);
  await Promise.all(
    Array.from({ length: rows }, async (_, row) => {
      let tokens = 0;
      for await (const event of engine.generate(requestOf(setting, row, steps + warmUp + 8 + extra(row)))) {
        if (event.type !== "token" || row !== rows - 1) continue;
        tokens++;
        if (tokens === warmUp) marks.start = mark(engine);
        if (tokens === warmUp + steps) marks.end = mark(engine);
      }
    }),
  );
  const { start, end } = marks;
  if (start === undefined || end === undefined) throw new Error("the round was too short to measure");
  const stepSeconds = end.stats.stepSeconds - start.stats.stepSeconds;
  const sessionSeconds = end.stats.sessionSeconds - start.stats.sessionSeconds;
  const ms = (end.us - start.us) / 1000;
  return {
    tokensPerSecond: (steps * rows * 1000) / ms,
    msPerStep: ms / steps,
    outside: stepSeconds === 0 ? Number.NaN : 1 - sessionSeconds / stepSeconds,
    startUs: start.us,
    endUs: end.us,
  };
}

export async function enginePrefill(engine: Engine, setting: BenchSetting): Promise<EngineRound> {
  const start = mark(engine);
  for await (const _ of engine.generate(requestOf(setting, 0, 1))) {
    // the first token ends it
  }
  const endUs = mark(engine).us;
  await new Promise((resolve) => setTimeout(resolve, 20)); // the last statistics follow the last token
  const ms = (endUs - start.us) / 1000;
  const session = (engine.stats.sessionSeconds - start.stats.sessionSeconds) * 1000;
  return {
    tokensPerSecond: (setting.past * 1000) / ms,
    msPerStep: ms,
    outside: 1 - session / ms,
    startUs: start.us,
    endUs,
  };
}

type Mark = ReturnType<typeof mark>;

function mark({ stats }: Engine) {
  return { us: Number(process.hrtime.bigint() / 1000n), stats };
}
