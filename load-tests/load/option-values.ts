// Values of flags: numbers in their ranges, tenants, popularities, lengths. Knows no flag but by the name it is given.

import type { Lengths } from "./lengths.ts";
import type { Popularity } from "./popularity.ts";

export type Tenant = {
  readonly name: string;
  readonly key: string | null;
  readonly requestsPerSecond: number;
};

export class UsageError extends Error {}

export function readTenants(keys: readonly string[], rates: string): Tenant[] {
  const each = rates.split(",").map((rate) => positiveNumber("rate", rate));
  const count = Math.max(1, keys.length);
  if (each.length !== 1 && each.length !== count)
    refuse(`--rate has ${each.length} rates for ${count} tenants`);
  return Array.from({ length: count }, (_, index) => {
    const [, name, key] = /^(?:([\w.-]+)=(?=[^=]))?(.+)$/s.exec(keys[index] ?? "") ?? [];
    return {
      name: name ?? `tenant-${index + 1}`,
      key: key ?? null,
      requestsPerSecond: each[index] ?? each[0]!,
    };
  });
}

export function readPopularity(text: string): Popularity {
  const [kind, alpha] = text.split(":");
  if (kind === "zipf") return { kind, alpha: alpha === undefined ? 1 : positiveNumber("popularity", alpha) };
  if (
    alpha === undefined &&
    (kind === "identical" || kind === "distinct" || kind === "uniform" || kind === "skewed")
  )
    return { kind };
  return refuse(`--popularity ${text} is none of identical, distinct, uniform, zipf[:ALPHA], skewed`);
}

export function readLengths(name: string, text: string | null, standard: Lengths): Lengths {
  if (text === null) return standard;
  const [median, sigma] = text.split(":");
  return {
    ...standard,
    medianTokens: positiveNumber(name, median!),
    sigma: sigma === undefined ? standard.sigma : notNegative(name, sigma),
    minTokens: 1,
    maxTokens: Math.max(standard.maxTokens, 8 * Number(median)),
  };
}

export function positiveNumber(name: string, text: string): number {
  const value = notNegative(name, text);
  return value > 0 ? value : refuse(`--${name} must be over 0, not ${text}`);
}

function notNegative(name: string, text: string): number {
  return /^\d+(\.\d+)?$/.test(text) ? Number(text) : refuse(`--${name} is a number, not ${text}`);
}

export function wholeNumber(name: string, text: string): number {
  return /^[1-9]\d{0,8}$/.test(text)
    ? Number(text)
    : refuse(`--${name} must be a whole number over 0, not ${text}`);
}

export function refuse(problem: string): never {
  throw new UsageError(problem);
}
