// The settings of a layer selection, shared by the methods that step by gradients.

import type { AdapterTargets } from "../../../kernels/adapter.ts";
import { mix } from "../../../kernels/sampling/random.ts";
import { idleWith, namesOf, SettingsError, type SettingsOf, type SettingsTable } from "../../settings.ts";
import type { BackpropTrainable, MethodContext } from "../method.ts";
import { selections } from "./index.ts";
import type { LayerSelection } from "./layer-selection.ts";

const idle = idleWith("layers", "all");

export const selectionSettings = {
  layers: {
    kind: "choice",
    default: "all",
    choices: namesOf(selections),
    help: "Which layers a step moves: all, some by importance (ist), some at random (lisa)",
  },
  layers_per_step: {
    kind: "integer",
    default: 2,
    min: 1,
    max: 1024,
    help: "Layers that a step of ist or lisa moves, fewer than the base has",
    idle,
  },
  layers_period: {
    kind: "integer",
    default: 10,
    min: 1,
    max: 1e6,
    help: "Steps until lisa draws other layers, or ist measures importance again",
    idle,
  },
} as const satisfies SettingsTable;

type SelectionSettings = SettingsOf<typeof selectionSettings>;

/** @throws SettingsError for a choice of all layers */
export function checkSelection(settings: SelectionSettings, targets: AdapterTargets): void {
  const { layers, layers_per_step: count } = settings;
  if (layers === "all" || count < targets.layers) return;
  throw new SettingsError(
    "method.adapter.layers_per_step",
    `${count} leave none out of the base's ${targets.layers} layers; lower it, or take layers all`,
  );
}

/** @throws SettingsError as `checkSelection` */
export function openSelection(
  settings: SelectionSettings,
  { spec, targets }: MethodContext,
  trainable: BackpropTrainable,
): LayerSelection {
  const { layers, layers_per_step: count, layers_period: period } = settings;
  checkSelection(settings, targets);
  return selections[layers]({
    layers: () => trainable.segments.map(({ layer }) => layer),
    count,
    period,
    seed: mix(spec.seed ^ 0x1a7e5),
  });
}
