// LoRA (Hu et al., arXiv 2106.09685) by gradients, with choices of where A starts, how ranks are spread and which
// layers a step moves.

import { type AdapterTargets, type DecodedAdapter, modulesOf } from "../../kernels/adapter.ts";
import { checkSettings, namesOf, type SettingsTable } from "../settings.ts";
import { adaloraSettings } from "./adalora.ts";
import { BackpropStepper } from "./backprop-stepper.ts";
import { evaSettings } from "./eva.ts";
import { allocations } from "./low-rank/allocations.ts";
import { initializers } from "./low-rank/initializers.ts";
import {
  checkLowRank,
  keptModules,
  lowRankNumbers,
  lowRankSettings,
  moduleShapes,
  scaleOf,
} from "./low-rank/low-rank-settings.ts";
import { parametersOf } from "./low-rank/low-rank-trainable.ts";
import type { Method } from "./method.ts";
import { checkSelection, openSelection, selectionSettings } from "./selections/selection-settings.ts";

const settingsTable = {
  ...lowRankSettings,
  initializer: {
    kind: "choice",
    default: "zero-b",
    choices: namesOf(initializers),
    help: "Where A and B start; an adapter to continue from starts where it is",
  },
  ...evaSettings,
  rank_allocation: {
    kind: "choice",
    default: "fixed",
    choices: namesOf(allocations),
    help: "How ranks are spread over the modules while they train",
  },
  ...adaloraSettings,
  ...selectionSettings,
} as const satisfies SettingsTable;

export const lora: Method = {
  summary: "Low-rank modules by gradients (LoRA, rsLoRA)",
  settings: settingsTable,
  learningRate: 5e-3,
  backward: true,
  precisions: ["float32", "int8"],
  open(context) {
    const { spec, targets, from } = context;
    const settings = checked(spec.method.settings, { targets, from });
    const start = from === null ? null : parametersOf(from, targets, (rank) => scaleOf(settings, rank));
    const shapes = start?.modules ?? moduleShapes(settings, targets.layers);
    const trainable = allocations[settings.rank_allocation].open(context, shapes);
    if (start !== null) trainable.begin(start);
    return {
      trainable,
      stepper: new BackpropStepper(context, trainable, openSelection(settings, context, trainable)),
      *prepare() {
        if (from === null) trainable.begin(yield* initializers[settings.initializer].start(context, shapes));
      },
    };
  },
  size(given, { targets, from }) {
    const settings = checked(given, { targets, from });
    const shapes = moduleShapes(settings, targets.layers);
    const modules = from === null ? shapes : modulesOf(from, "low-rank");
    const { values, preparing } =
      from === null
        ? initializers[settings.initializer].size(given, { shapes, targets })
        : { values: lowRankNumbers(modules, targets), preparing: 0 };
    const ranks = modules.map(({ rank }) => rank);
    const moving = allocations[settings.rank_allocation].size(given, { ranks, numbers: values });
    return { ...moving, preparing };
  },
  kept(given, { from }) {
    const settings = checkSettings(settingsTable, given, "method.adapter");
    return { ...keptModules(settings, from), initializer: "its own values" };
  },
};

/** @throws SettingsError for settings that do not go together, or not with `from` */
function checked(
  given: unknown,
  { targets, from }: { targets: AdapterTargets; from: DecodedAdapter | null },
) {
  const settings = checkSettings(settingsTable, given, "method.adapter");
  checkSelection(settings, targets);
  checkLowRank(settings, from, "lora");
  return settings;
}
