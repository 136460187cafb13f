// The ways to merge adapters. A new one is a file here and a line below.

import type { MergeMethod } from "../merge-method.ts";
import { breadcrumbs } from "./breadcrumbs.ts";
import { concatenation } from "./concatenation.ts";
import { dareLinear } from "./dare-linear.ts";
import { dareTies } from "./dare-ties.ts";
import { linear } from "./linear.ts";
import { svd } from "./svd.ts";
import { ties } from "./ties.ts";

export const mergeMethods = {
  linear,
  concatenation,
  svd,
  ties,
  dare_linear: dareLinear,
  dare_ties: dareTies,
  breadcrumbs,
} as const satisfies Record<string, MergeMethod>;

export type MergeMethodName = keyof typeof mergeMethods;
export const mergeMethodNames = Object.keys(mergeMethods) as readonly MergeMethodName[];
