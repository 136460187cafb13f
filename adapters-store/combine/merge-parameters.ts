// The parameters that merge methods share: what each may be, and what it is if it is not given.

import { AdapterError } from "../../kernels/errors.ts";

type Rule = {
  readonly allows: (value: number) => boolean;
  readonly must: string;
  readonly otherwise?: number;
};

const rules = {
  /** Of the merged adapter's modules, at most. */
  rank: { allows: (rank) => Number.isInteger(rank) && rank >= 1, must: "be a whole number of 1 or more" },
  /** The part of each matrix's entries that is kept. */
  density: { allows: (density) => density > 0 && density <= 1, must: "be above 0 and at most 1" },
  /** The part of each matrix's entries, its largest, that is dropped. */
  outliers: { allows: (outliers) => outliers >= 0 && outliers < 1, must: "be at least 0 and below 1" },
  seed: {
    allows: (seed) => Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32,
    must: "be a whole number below 2^32",
    otherwise: 0,
  },
} as const satisfies Record<string, Rule>;

export type MergeParameter = keyof typeof rules;
export type MergeParameters<Parameter extends MergeParameter = MergeParameter> = Readonly<
  Record<Parameter, number>
>;

/** Those that are taken, and no others. @throws AdapterError `merge_parameter_invalid` */
export function checkParameters(
  method: string,
  taken: readonly MergeParameter[],
  given: Readonly<Record<string, number | undefined>>,
): MergeParameters {
  const unknown = Object.keys(given).find((name) => !(taken as readonly string[]).includes(name));
  if (unknown !== undefined) {
    const list = taken.length === 0 ? "no parameters" : taken.join(", ");
    throw invalidParameter(`${method} takes ${list}; remove ${unknown}`);
  }
  const checked = taken.map((name): [MergeParameter, number] => {
    const rule: Rule = rules[name];
    const value = given[name] ?? rule.otherwise;
    if (value === undefined) throw invalidParameter(`${method} needs ${name}, which must ${rule.must}`);
    if (!rule.allows(value)) throw invalidParameter(`${name} is ${value} and must ${rule.must}`);
    return [name, value];
  });
  return Object.fromEntries(checked) as MergeParameters; // a method reads those that it takes
}

export function invalidParameter(message: string): AdapterError {
  return new AdapterError("merge_parameter_invalid", message);
}
