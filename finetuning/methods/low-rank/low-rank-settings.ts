// The settings that say which low-rank modules there are. Shared by the methods that train such modules.

import {
  type AdapterTargets,
  type DecodedAdapter,
  modulesOf,
  type Projection,
  projections,
} from "../../../kernels/adapter.ts";
import type { ModuleShape } from "../../../kernels/training/low-rank-parameters.ts";
import { type Settings, SettingsError, type SettingsOf, type SettingsTable } from "../../settings.ts";
import type { KeptSettings } from "../method.ts";

/** Projections as PEFT names them. */
export const moduleNames = projections.map((projection) => `${projection}_proj` as const);
export type ModuleName = (typeof moduleNames)[number];

const maxRank = 256;
export const kept = "an adapter to continue from keeps its own";

export const lowRankSettings = {
  rank: {
    kind: "integer",
    default: 16,
    min: 1,
    max: maxRank,
    help: `Of each module; ${kept}`,
    idle: ({ rank_pattern: pattern, target_modules: names }: Settings) =>
      (names as readonly string[]).every((name) => Object.hasOwn(pattern as object, name))
        ? "a rank_pattern of all target_modules"
        : null,
  },
  alpha: {
    kind: "number",
    default: 32,
    min: 1e-3,
    max: 1e4,
    help: "What a module adds is scaled by alpha / rank",
  },
  use_rslora: {
    kind: "flag",
    default: false,
    help: "Scale by alpha / sqrt(rank) instead (arXiv 2312.03732)",
  },
  target_modules: {
    kind: "choices",
    default: moduleNames,
    choices: moduleNames,
    help: `Projections that get a module; ${kept}`,
  },
  rank_pattern: {
    kind: "numbers",
    of: "integer",
    names: moduleNames,
    default: {},
    min: 1,
    max: maxRank,
    help: `Other ranks for some projections; ${kept}`,
  },
} as const satisfies SettingsTable;

export type LowRankSettings = SettingsOf<typeof lowRankSettings>;

export function projectionOf(name: ModuleName): Projection {
  return name.slice(0, -"_proj".length) as Projection;
}

export function scaleOf({ alpha, use_rslora }: LowRankSettings, rank: number): number {
  return alpha / (use_rslora ? Math.sqrt(rank) : rank);
}

/** Every module that the settings ask for, layer by layer, projections in graph order. */
export function moduleShapes(settings: LowRankSettings, layers: number): ModuleShape[] {
  const names = moduleNames.filter((name) => settings.target_modules.includes(name));
  return Array.from({ length: layers }, (_, layer) =>
    names.map((name) => {
      const rank = settings.rank_pattern[name] ?? settings.rank;
      return { layer, projection: projectionOf(name), rank, scale: scaleOf(settings, rank) };
    }),
  ).flat();
}

/** @throws SettingsError for settings that do not go together, or not with `from` */
export function checkLowRank(
  { rank_pattern, target_modules }: LowRankSettings,
  from: DecodedAdapter | null,
  method: string,
): void {
  if (from !== null) return checkContinued(from, "low-rank", method);
  const names: readonly string[] = target_modules;
  const foreign = Object.keys(rank_pattern).find((name) => !names.includes(name));
  if (foreign === undefined) return;
  throw new SettingsError(
    `method.adapter.rank_pattern.${foreign}`,
    "it is not among target_modules; leave it out here, or add it there",
  );
}

/** @throws SettingsError for an adapter with other modules than `kind` */
export function checkContinued(
  from: DecodedAdapter,
  kind: "low-rank" | "channels" | "sparse",
  method: string,
): void {
  const others = new Set(from.modules.map((module) => module.kind).filter((own) => own !== kind));
  if (others.size === 0) return;
  throw new SettingsError(
    "method",
    `${method} continues adapters of ${kind} modules only, and this one has ${[...others].join(", ")} modules; choose another method or start from the base`,
  );
}

export function keptModules(
  { rank, rank_pattern, target_modules }: LowRankSettings,
  from: DecodedAdapter,
): KeptSettings {
  const modules = modulesOf(from, "low-rank").map((module) => ({ name: nameOf(module), rank: module.rank }));
  const asPattern = modules.filter(({ name }) => rank_pattern[name] !== undefined);
  const asRank = modules.filter(({ name }) => rank_pattern[name] === undefined);
  const isPattern = asPattern.every((module) => module.rank === rank_pattern[module.name]);
  return {
    rank: asRank.every((module) => module.rank === rank) ? null : rangeOf(modules.map((each) => each.rank)),
    rank_pattern: isPattern ? null : rangeOf(modules.map((each) => each.rank)),
    target_modules: keptNames(target_modules, from),
  };
}

/** The projections that have modules, in words; null where they are the given ones. */
export function keptNames(given: readonly string[], { modules }: DecodedAdapter): string | null {
  const own = new Set<string>(modules.flatMap((module) => ("projection" in module ? [nameOf(module)] : [])));
  const isSame = own.size === given.length && given.every((name) => own.has(name));
  return isSame ? null : [...own].join(", ");
}

/** From the least to the largest. */
export function rangeOf(values: readonly number[]): string {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  return least === most ? `${least}` : `${least} to ${most}`;
}

function nameOf({ projection }: { readonly projection: Projection }): ModuleName {
  return `${projection}_proj`;
}

export function lowRankNumbers(
  shapes: readonly Pick<ModuleShape, "projection" | "rank">[],
  { shapes: widths }: AdapterTargets,
): number {
  return shapes.reduce((sum, { projection, rank }) => {
    return sum + rank * (widths[projection].in + widths[projection].out);
  }, 0);
}
