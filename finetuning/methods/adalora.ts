// AdaLoRA as a job asks for it: which steps narrow the ranks, and down to what.

import { checkSettings, idleWith, type Settings, type SettingsTable } from "../settings.ts";
import { AdaloraTrainable, checkTarget } from "./adalora-trainable.ts";
import type { Allocation } from "./low-rank/allocations.ts";
import { ownSettings } from "./own-settings.ts";

const idle = idleWith("rank_allocation", "fixed");

export const adaloraSettings = {
  adalora_target_rank: {
    kind: "integer",
    default: 8,
    min: 1,
    max: 256,
    help: "adalora: average rank of the modules in the end, below what they start with",
    idle,
  },
  adalora_first_share: {
    kind: "number",
    default: 0.1,
    min: 0,
    max: 1,
    help: "adalora: share of the steps, at the start, that keep all ranks",
    idle,
  },
  adalora_last_share: {
    kind: "number",
    default: 0.3,
    min: 0,
    max: 1,
    help: "adalora: share of the steps, at the end, that train the ranks that are left",
    idle,
  },
  adalora_interval: {
    kind: "integer",
    default: 5,
    min: 1,
    max: 1e6,
    help: "adalora: steps between two choices of ranks",
    idle,
  },
  adalora_orthogonality: {
    kind: "number",
    default: 0.5,
    min: 0,
    max: 100,
    help: "adalora: weight of the penalty on matrices that are not orthogonal",
    idle,
  },
} as const satisfies SettingsTable;

function settingsOf(given: Settings) {
  return checkSettings(adaloraSettings, ownSettings(given, adaloraSettings), "method.adapter");
}

/** Singular values beside the modules' own numbers; the product that passes see; two averages of each, and which ranks stay. */
const size: Allocation["size"] = (given, { ranks, numbers }) => {
  const initial = ranks.reduce((sum, rank) => sum + rank, 0);
  checkTarget(settingsOf(given).adalora_target_rank, { initial, modules: ranks.length });
  const trained = numbers + initial;
  return { trained, frozen: numbers + 2 * trained, kept: 2 * trained + initial };
};

const open: Allocation["open"] = ({ targets, spec, steps }, shapes) => {
  const settings = settingsOf(spec.method.settings);
  const firstStep = Math.round(steps * settings.adalora_first_share);
  return new AdaloraTrainable({
    targets,
    shapes,
    seed: spec.seed,
    targetRank: settings.adalora_target_rank,
    firstStep,
    lastStep: Math.max(firstStep, steps - Math.round(steps * settings.adalora_last_share)),
    interval: settings.adalora_interval,
    orthogonality: settings.adalora_orthogonality,
  });
};

export const adalora: Allocation = { open, size };
