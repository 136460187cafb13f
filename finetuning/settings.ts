// Settings as a table: what may be set, within which bounds, and what it is otherwise. Requests are checked and
// documented by the table, so a method's settings are declared in one place.

import { CotenantError } from "../kernels/errors.ts";
import { nearestName } from "../kernels/nearest-name.ts";

export type SettingValue = number | string | boolean | readonly string[] | Readonly<Record<string, number>>;
export type Settings = Readonly<Record<string, SettingValue>>;

export type SettingKind = SettingValues & {
  readonly help: string;
  /** What of the other settings leaves it without effect, in words; null = nothing. */
  readonly idle?: (settings: Settings) => string | null;
};

type SettingValues =
  | {
      readonly kind: "integer" | "number";
      readonly default: number;
      readonly min: number;
      readonly max: number;
    }
  | { readonly kind: "flag"; readonly default: boolean }
  | { readonly kind: "choice"; readonly default: string; readonly choices: readonly string[] }
  | {
      readonly kind: "choices"; // several of them, at least one
      readonly default: readonly string[];
      readonly choices: readonly string[];
    }
  | {
      readonly kind: "numbers"; // by name, such as PEFT's rank_pattern
      readonly of: "integer" | "number";
      readonly names: readonly string[];
      readonly default: Readonly<Record<string, number>>;
      readonly min: number;
      readonly max: number;
    };

export type SettingsTable = Readonly<Record<string, SettingKind>>;

type Kinds<Name extends SettingKind["kind"]> = Extract<SettingKind, { kind: Name }>;
type ValueOf<Kind extends SettingKind> =
  Kind extends Kinds<"integer" | "number">
    ? number
    : Kind extends Kinds<"flag">
      ? boolean
      : Kind extends { readonly kind: "choice"; readonly choices: readonly (infer Choice)[] }
        ? Choice
        : Kind extends { readonly kind: "choices"; readonly choices: readonly (infer Choice)[] }
          ? readonly Choice[]
          : Readonly<Record<string, number>>;

/** Every setting of a table, checked. */
export type SettingsOf<Table extends SettingsTable> = {
  readonly [Name in keyof Table]: ValueOf<Table[Name]>;
};

/** Settings that cannot be: `param` is the field, as the request has it. */
export class SettingsError extends CotenantError {
  readonly param: string;

  constructor(param: string, problem: string) {
    super("training_settings_invalid", `${param}: ${problem}`);
    this.param = param;
  }
}

/**
 * What was given, and the defaults of what was not.
 * @param path of the settings in the request
 * @throws SettingsError `training_settings_invalid` naming the field, what was given and what is allowed
 */
export function checkSettings<Table extends SettingsTable>(
  table: Table,
  given: unknown,
  path: string,
): SettingsOf<Table> {
  if (!isRecord(given)) throw new SettingsError(path, `${shown(given)} is not an object of settings`);
  const unknown = Object.keys(given).find((name) => !Object.hasOwn(table, name));
  if (unknown !== undefined) {
    const names = Object.keys(table);
    const nearest = nearestName(unknown, names);
    const remedy = nearest === undefined ? `known are ${names.join(", ")}` : `did you mean ${nearest}?`;
    throw new SettingsError(`${path}.${unknown}`, `there is no such setting; ${remedy}`);
  }
  const checked = Object.entries(table).map(([name, kind]) => {
    const value = Object.hasOwn(given, name) ? given[name] : undefined;
    if (value === undefined) return [name, kind.default];
    checkValue(kind, value, `${path}.${name}`);
    return [name, value];
  });
  return Object.fromEntries(checked) as SettingsOf<Table>;
}

function checkValue(kind: SettingKind, value: unknown, path: string): void {
  switch (kind.kind) {
    case "integer":
    case "number":
      return checkNumber(kind, value, path);
    case "flag":
      if (typeof value !== "boolean") throw refusal(path, value, "true or false");
      return;
    case "choice":
      if (!kind.choices.some((choice) => choice === value)) {
        throw refusal(path, value, `one of ${kind.choices.join(", ")}`);
      }
      return;
    case "choices":
      if (!isSelection(value, kind.choices)) {
        throw refusal(path, value, `a list of some of ${kind.choices.join(", ")}, each once`);
      }
      return;
    case "numbers": {
      if (!isRecord(value)) throw refusal(path, value, "an object of numbers by name");
      for (const [name, number] of Object.entries(value)) {
        if (!kind.names.includes(name)) {
          throw new SettingsError(`${path}.${name}`, `no such name; known are ${kind.names.join(", ")}`);
        }
        checkNumber({ ...kind, kind: kind.of }, number, `${path}.${name}`);
      }
      return;
    }
    default:
      return kind satisfies never;
  }
}

type Range = { readonly kind: "integer" | "number"; readonly min: number; readonly max: number };

function checkNumber({ kind, min, max }: Range, value: unknown, path: string): void {
  const fits = typeof value === "number" && value >= min && value <= max; // NaN is in no range
  if (fits && (kind === "number" || Number.isInteger(value))) return;
  throw refusal(path, value, `${kind === "integer" ? "an integer" : "a number"} from ${min} to ${max}`);
}

function isSelection(value: unknown, choices: readonly string[]): boolean {
  if (!Array.isArray(value) || value.length === 0 || new Set(value).size !== value.length) return false;
  return value.every((choice) => choices.includes(choice));
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function refusal(path: string, value: unknown, allowed: string): SettingsError {
  return new SettingsError(path, `${shown(value)} is not allowed here, but ${allowed} is`);
}

const shownCharacters = 80;

function shown(value: unknown): string {
  const text = typeof value === "number" ? String(value) : (JSON.stringify(value) ?? String(value));
  return text.length > shownCharacters ? `${text.slice(0, shownCharacters)}...` : text;
}

/** Without effect as long as another setting has a value. */
export function idleWith(setting: string, value: SettingValue): NonNullable<SettingKind["idle"]> {
  return (settings) => (settings[setting] === value ? `${setting} ${value}` : null);
}

/** A registry's names, as choices. */
export function namesOf<Name extends string>(registry: Readonly<Record<Name, unknown>>): readonly Name[] {
  return Object.keys(registry) as Name[];
}
