// Runs a bench's steps in the engine while its thread is sampled: what a step does around the session's run.

import { fileURLToPath, pathToFileURL } from "node:url";
import type { BenchSetting } from "../bench/bench-setting.ts";
import { type EngineRound, engineDecode, enginePrefill, openEngine } from "../bench/engine-side.ts";
import { insideRuntime, type PlaceTime, timesByPlace } from "./cpu-samples.ts";
import { EngineThread } from "./engine-thread.ts";

const rounds = 3; // one more warms up
const root = pathToFileURL(fileURLToPath(new URL("../../", import.meta.url))).href;

export type EngineProfile = {
  readonly msPerStep: number;
  readonly outsideShare: number; // of a step, by the engine's own clocks, while it was sampled
  readonly runtimeMsPerStep: number;
  readonly places: readonly PlaceTime[]; // per step, longest first, without the runtime and waiting
};

export async function profileEngine(
  kind: "decode" | "prefill",
  setting: BenchSetting,
): Promise<EngineProfile> {
  const thread = await EngineThread.watch();
  const engine = await openEngine(setting);
  const measure = () => (kind === "decode" ? engineDecode(engine, setting) : enginePrefill(engine, setting));
  await measure();
  await thread.startProfile();
  const measured: EngineRound[] = [];
  for (let round = 0; round < rounds; round++) measured.push(await measure());
  const profile = await thread.stopProfile();
  await engine.close();
  thread.close();

  const steps = rounds * (kind === "decode" ? setting.steps : 1);
  const mean = (of: (round: EngineRound) => number) =>
    measured.reduce((sum, round) => sum + of(round), 0) / rounds;
  const perStep = timesByPlace(profile, measured, root).map(({ place, ms }) => ({ place, ms: ms / steps }));
  return {
    msPerStep: mean(({ msPerStep }) => msPerStep),
    outsideShare: mean(({ outside }) => outside),
    runtimeMsPerStep: perStep.find(({ place }) => place === insideRuntime)?.ms ?? 0,
    places: perStep.filter(({ place }) => place !== insideRuntime && place !== "(idle)"),
  };
}
