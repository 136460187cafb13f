// PEFT's `cat`: the adapters' own factors, weighted, one below the other. Nothing is computed anew.

import type { MergeMethod } from "../merge-method.ts";

export const concatenation: MergeMethod<never> = {
  parameters: [],
  merge: ({ sum }) => ({ modules: sum, target: null }),
};
