// What a request says of the method: its name and settings, checked, and held against an adapter to continue from.

import { type MethodName, methods } from "../../finetuning/methods/index.ts";
import type { Method } from "../../finetuning/methods/method.ts";
import {
  checkSettings,
  type SettingKind,
  type Settings,
  SettingsError,
  type SettingsTable,
  type SettingValue,
} from "../../finetuning/settings.ts";
import type { AdapterTargets, DecodedAdapter } from "../../kernels/adapter.ts";
import type { Asked } from "./job-hyperparameters.ts";

/** {type: a method's name, ...its settings} */
export type GivenMethod = Readonly<Record<string, unknown>>;

/** Throws SettingsError. */
export function methodOf({ type = "lora", ...given }: GivenMethod): Asked["method"] {
  if (typeof type !== "string" || !Object.hasOwn(methods, type)) {
    const names = Object.keys(methods).join(", ");
    throw new SettingsError("method.adapter.type", `there is no such method; known are ${names}`);
  }
  const name = type as MethodName;
  const method: Method = methods[name];
  const settings: Settings = checkSettings(method.settings, given, "method.adapter");
  for (const setting of Object.keys(given)) refuseIdle(setting, settings, method.settings);
  return { name, settings };
}

/** Throws SettingsError for a setting that is of no use as the others are. */
function refuseIdle(setting: string, settings: Settings, table: SettingsTable): void {
  for (const [name, kind] of Object.entries(table)) {
    const wanted = wantedFor(setting, name, kind);
    if (wanted === null || wanted.some((value) => value === settings[name])) continue;
    const problem = `is of use with ${name} ${wanted.join(" or ")} alone; leave it out`;
    throw new SettingsError(`method.adapter.${setting}`, problem);
  }
}

/**
 * What another setting has to be for one that begins with its name, or with the name of one of its choices; null = it
 * does not matter. Of a choice, the default is the one without settings of its own.
 */
function wantedFor(setting: string, name: string, kind: SettingKind): readonly SettingValue[] | null {
  const belongsTo = (owner: string) => setting.startsWith(`${owner}_`);
  if (kind.kind === "flag") return belongsTo(name) ? [true] : null;
  if (kind.kind !== "choice") return null;
  if (belongsTo(name)) return kind.choices.filter((choice) => choice !== kind.default);
  const owner = kind.choices.find(belongsTo);
  return owner === undefined ? null : [owner];
}

/**
 * What the adapter has its own of is left out of the settings. Throws SettingsError where something else was given.
 * @param given the settings without their defaults
 */
export function continuedMethod(
  { name, settings }: Asked["method"],
  given: GivenMethod,
  of: { readonly from: DecodedAdapter; readonly targets: AdapterTargets },
): Asked["method"] {
  const method: Method = methods[name];
  const kept = method.kept(settings, of);
  const isGiven = (setting: string) => Object.hasOwn(given, setting);
  for (const [setting, own] of Object.entries(kept)) {
    if (own === null || !isGiven(setting)) continue;
    const problem = `the adapter to continue from keeps ${own}; leave it out, or start from the base`;
    throw new SettingsError(`method.adapter.${setting}`, problem);
  }
  const asked = Object.entries(settings).filter(([setting]) => !(setting in kept) || isGiven(setting));
  return { name, settings: Object.fromEntries(asked) };
}
