// Checks that several scenarios share.

import { atLeast, atMost, type Check } from "../check.ts";
import type { Figures } from "../summary.ts";

export function noErrors(figures: Figures, of = ""): Check {
  const errors = Object.values(figures.errors).reduce((sum, count) => sum + count, 0);
  return atMost(0, { name: `${of}requests that failed or did not end`, value: errors + figures.unfinished });
}

export function goodputShare(least: number, figures: Figures, of = ""): Check {
  return atLeast(least, { name: `${of}share of requests within the SLO`, value: figures.goodput.share });
}
