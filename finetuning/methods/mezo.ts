// MeZO (Malladi et al., arXiv 2305.17333) on low-rank modules: forward passes alone, by the graph that serves, so a job
// takes an inference's memory, and its result is a seed ledger of a few kilobytes. The optimizer is plain descent and
// has no settings.

import type { Masks } from "../../adapters-store/codecs/masked-ledger.ts";
import { type AdapterTargets, type DecodedAdapter, modulesOf } from "../../kernels/adapter.ts";
import { checkSettings, type Settings, type SettingsOf, type SettingsTable } from "../settings.ts";
import {
  checkLowRank,
  keptModules,
  type LowRankSettings,
  lowRankNumbers,
  lowRankSettings,
  moduleShapes,
  scaleOf,
} from "./low-rank/low-rank-settings.ts";
import { LowRankTrainable, parametersOf } from "./low-rank/low-rank-trainable.ts";
import type { Method, MethodContext, MethodSize, Prepared } from "./method.ts";
import { MezoStepper } from "./mezo-stepper.ts";
import { SeedLedger } from "./seed-ledger.ts";

export const mezoSettings = {
  ...lowRankSettings,
  rank: { ...lowRankSettings.rank, default: 4 },
  alpha: { ...lowRankSettings.alpha, default: 8 },
  target_modules: { ...lowRankSettings.target_modules, default: ["down_proj"] },
  epsilon: {
    kind: "number",
    default: 3e-2, // on int8 and int4 bases, a tenth of it is lost in the rounding of activations
    min: 1e-6,
    max: 1,
    help: "How far the two forward passes of a step move every value, up and down",
  },
} as const satisfies SettingsTable;

export const mezo: Method = {
  summary: "Low-rank modules by forward passes alone (MeZO)",
  settings: mezoSettings,
  learningRate: 1e-2,
  backward: false,
  precisions: ["float32"],
  open: (context) =>
    openMezo(context, { ...mezoSettingsOf(context.spec.method.settings), method: "mezo", masks: null }),
  size: (given, of) => mezoSize({ ...mezoSettingsOf(given), method: "mezo" }, of),
  kept: (given, { from }) => keptModules(mezoSettingsOf(given), from),
};

function mezoSettingsOf(given: Settings): SettingsOf<typeof mezoSettings> {
  return checkSettings(mezoSettings, given, "method.adapter");
}

type MezoSettings = LowRankSettings & { readonly epsilon: number };

export function openMezo(
  context: MethodContext,
  settings: MezoSettings & { readonly method: string; readonly masks: Masks | null },
): Prepared {
  const { spec, targets, from, passes } = context;
  const { epsilon, masks, method } = settings;
  checkLowRank(settings, from, method);
  const start = from === null ? null : parametersOf(from, targets, (rank) => scaleOf(settings, rank));
  const trainable = new LowRankTrainable(targets, start?.modules ?? moduleShapes(settings, targets.layers));
  if (start !== null) trainable.begin(start);
  const { seed, maxGradientNorm: maxSlope } = spec;
  const initial = from === null ? null : trainable.flat;
  const ledger = new SeedLedger({ shapes: trainable.modules(), targets, masks, seed, initial });
  return {
    trainable,
    stepper: new MezoStepper(trainable, { passes, ledger, epsilon, seed, maxSlope }),
    // biome-ignore lint/correctness/useYield: it has nothing to measure
    *prepare() {
      ledger.write(trainable.flat);
    },
  };
}

/** Beside the trained values: the ledger's in double precision, and the masks. */
export function mezoSize(
  settings: LowRankSettings & { readonly method: string },
  { targets, from }: { readonly targets: AdapterTargets; readonly from: DecodedAdapter | null },
): MethodSize {
  checkLowRank(settings, from, settings.method);
  const modules = from === null ? moduleShapes(settings, targets.layers) : modulesOf(from, "low-rank");
  const trained = lowRankNumbers(modules, targets);
  return { trained, frozen: 3 * trained, kept: 0, preparing: 0 };
}
