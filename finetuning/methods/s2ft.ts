// Structured sparse finetuning (S2FT, Yang et al., arXiv 2412.06289): dense blocks on a few input channels of a
// projection, y += x[channels] B. As the paper's S2FT-R, channels are drawn at random.

import { type AdapterTargets, modulesOf } from "../../kernels/adapter.ts";
import { mix } from "../../kernels/sampling/random.ts";
import { shuffled } from "../example-order.ts";
import { checkSettings, SettingsError, type SettingsOf, type SettingsTable } from "../settings.ts";
import { BackpropStepper } from "./backprop-stepper.ts";
import { type ChannelsPlace, ChannelsTrainable } from "./channels-trainable.ts";
import {
  checkContinued,
  kept,
  keptNames,
  moduleNames,
  projectionOf,
  rangeOf,
} from "./low-rank/low-rank-settings.ts";
import type { Method, MethodContext } from "./method.ts";
import { checkSelection, openSelection, selectionSettings } from "./selections/selection-settings.ts";

const settingsTable = {
  channels: { kind: "integer", default: 64, min: 1, max: 4096, help: `Of each module; ${kept}` },
  target_modules: {
    kind: "choices",
    default: ["o_proj", "down_proj"],
    choices: moduleNames,
    help: `Projections that get a module; ${kept}`,
  },
  ...selectionSettings,
} as const satisfies SettingsTable;

type S2ftSettings = SettingsOf<typeof settingsTable>;

export const s2ft: Method = {
  summary: "Dense blocks on a few input channels, by gradients (S2FT)",
  settings: settingsTable,
  learningRate: 2e-2,
  backward: true,
  precisions: ["float32", "int8"],
  open(context) {
    const { from, targets } = context;
    const settings = checkSettings(settingsTable, context.spec.method.settings, "method.adapter");
    if (from !== null) checkContinued(from, "channels", "s2ft");
    const places = from === null ? drawn(settings, context) : modulesOf(from, "channels");
    const trainable = new ChannelsTrainable(targets, places);
    if (from !== null) trainable.begin(modulesOf(from, "channels"));
    return {
      trainable,
      stepper: new BackpropStepper(context, trainable, openSelection(settings, context, trainable)),
      *prepare() {}, // all zeros: the base itself
    };
  },
  size(given, { targets, from }) {
    const settings = checkSettings(settingsTable, given, "method.adapter");
    checkSelection(settings, targets);
    if (from !== null) checkContinued(from, "channels", "s2ft");
    const modules = from === null ? asked(settings, targets) : modulesOf(from, "channels");
    const sum = (side: "in" | "out") =>
      modules.reduce((total, { projection, channels }) => {
        return total + lengthOf(channels) * targets.shapes[projection][side];
      }, 0);
    const kept = modules.reduce((total, { channels }) => total + lengthOf(channels), 0);
    return { trained: sum("out"), frozen: sum("in"), kept, preparing: 0 };
  },
  kept(given, { from }) {
    const { channels, target_modules } = checkSettings(settingsTable, given, "method.adapter");
    const own = modulesOf(from, "channels").map((module) => module.channels.length);
    return {
      channels: own.every((count) => count === channels) ? null : rangeOf(own),
      target_modules: keptNames(target_modules, from),
    };
  },
};

/** @throws SettingsError for more channels than a projection has */
function asked({ channels, target_modules }: S2ftSettings, { layers, shapes }: AdapterTargets) {
  const names = moduleNames.filter((name) => target_modules.includes(name));
  const narrow = names.find((name) => shapes[projectionOf(name)].in < channels);
  if (narrow !== undefined) {
    const width = shapes[projectionOf(narrow)].in;
    throw new SettingsError(
      "method.adapter.channels",
      `${channels} is more than the ${width} input channels of this base's ${narrow}`,
    );
  }
  return Array.from({ length: layers }, (_, layer) =>
    names.map((name) => ({ layer, projection: projectionOf(name), channels })),
  ).flat();
}

function drawn(settings: S2ftSettings, { spec, targets }: MethodContext): ChannelsPlace[] {
  return asked(settings, targets).map(({ layer, projection, channels }, index) => {
    const order = shuffled(targets.shapes[projection].in, mix(spec.seed + mix(index)));
    return { layer, projection, channels: order.slice(0, channels).sort() };
  });
}

function lengthOf(channels: number | Uint32Array): number {
  return typeof channels === "number" ? channels : channels.length;
}
