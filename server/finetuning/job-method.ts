// What a request says of the method: its name and settings, checked, and held against an adapter to continue from.

import { type MethodName, methods } from "../../finetuning/methods/index.ts";
import type { Method } from "../../finetuning/methods/method.ts";
import {
  checkSettings,
  type Settings,
  SettingsError,
  type SettingsTable,
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
  return { name, settings: withoutIdle(settings, given, method.settings) };
}

/** Throws SettingsError for one that was given and has no effect as the others are. */
function withoutIdle(settings: Settings, given: GivenMethod, table: SettingsTable): Settings {
  const used = Object.entries(settings).filter(([name]) => {
    const reason = table[name]!.idle?.(settings) ?? null;
    if (reason === null || !Object.hasOwn(given, name)) return reason === null;
    throw new SettingsError(`method.adapter.${name}`, `has no effect with ${reason}; leave it out`);
  });
  return Object.fromEntries(used);
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
