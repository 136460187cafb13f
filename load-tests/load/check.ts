// What a scenario asks of its figures: a value, a limit, and whether it holds. A failed check fails the run.

export type Check = {
  readonly name: string;
  readonly value: number;
  readonly relation: "at least" | "at most";
  readonly limit: number;
  readonly unit: string;
  readonly passed: boolean;
};

export type Claim = { readonly name: string; readonly value: number; readonly unit?: string };

/** A value that is not a number holds nothing: nothing was measured. */
export function atLeast(limit: number, { name, value, unit = "" }: Claim): Check {
  return { name, value, relation: "at least", limit, unit, passed: value >= limit };
}

export function atMost(limit: number, { name, value, unit = "" }: Claim): Check {
  return { name, value, relation: "at most", limit, unit, passed: value <= limit };
}

export function describeCheck({ name, value, relation, limit, unit, passed }: Check): string {
  const number = (one: number) => `${Number.isInteger(one) ? one : Number(one.toPrecision(4))}${unit}`;
  return `${passed ? "pass" : "FAIL"}  ${name}: ${number(value)}, ${relation} ${number(limit)}`;
}
