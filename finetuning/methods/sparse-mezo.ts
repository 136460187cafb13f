// Sparse MeZO (Liu et al., arXiv 2402.15751): a step of MeZO probes and moves only the values of small magnitude, by a
// threshold for each matrix, since noise along large values does the harm.

import { checkSettings, idleWith, type Settings, type SettingsOf, type SettingsTable } from "../settings.ts";
import { keptModules } from "./low-rank/low-rank-settings.ts";
import type { Method } from "./method.ts";
import { mezoSettings, mezoSize, openMezo } from "./mezo.ts";

export const sparseMezoSettings = {
  ...mezoSettings,
  share: {
    kind: "number",
    default: 0.75,
    min: 0.01,
    max: 1,
    help: "Of each matrix's values, the smallest ones, which a step moves",
  },
  mask_steps: {
    kind: "integer",
    default: 20,
    min: 1,
    max: 1e6,
    help: "Steps until it is chosen anew which values are small",
    idle: idleWith("share", 1),
  },
} as const satisfies SettingsTable;

export const sparseMezo: Method = {
  summary: "MeZO on the values of small magnitude (Sparse MeZO)",
  settings: sparseMezoSettings,
  learningRate: 1e-2,
  backward: false,
  precisions: ["float32"],
  open(context) {
    const settings = settingsOf(context.spec.method.settings);
    return openMezo(context, { ...settings, method: "sparse-mezo", masks: masksOf(settings) });
  },
  size: (given, of) => mezoSize({ ...settingsOf(given), method: "sparse-mezo" }, of),
  kept: (given, { from }) => keptModules(settingsOf(given), from),
};

function settingsOf(given: Settings): SettingsOf<typeof sparseMezoSettings> {
  return checkSettings(sparseMezoSettings, given, "method.adapter");
}

export function masksOf({ share, mask_steps }: SettingsOf<typeof sparseMezoSettings>) {
  return { share: Math.fround(share), maskSteps: mask_steps }; // the share as a ledger holds it
}
