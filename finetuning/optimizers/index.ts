// The optimizers by the name that a job asks for.

import { adamw, adamw8bit } from "./adamw.ts";
import { lion } from "./lion.ts";
import type { OptimizerKind } from "./optimizer.ts";
import { sgd } from "./sgd.ts";

export const optimizers = {
  adamw,
  "adamw-8bit": adamw8bit,
  lion,
  sgd,
} as const satisfies Record<string, OptimizerKind>;

export type OptimizerName = keyof typeof optimizers;
