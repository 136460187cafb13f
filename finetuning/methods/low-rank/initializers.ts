// The initialisers of low-rank modules by the name that a job asks for.

import type { AdapterTargets } from "../../../kernels/adapter.ts";
import type { LowRankParameters, ModuleShape } from "../../../kernels/training/low-rank-parameters.ts";
import type { TrainingUnit } from "../../../kernels/training/training-pass.ts";
import type { Settings } from "../../settings.ts";
import { eva } from "../eva.ts";
import type { MethodContext } from "../method.ts";
import { zeroB } from "./zero-b.ts";

export interface Initializer {
  /**
   * The values that training starts from, after units of what must be computed for them. Ranks may differ from those
   * that are asked for.
   */
  start(
    context: MethodContext,
    shapes: readonly ModuleShape[],
  ): Generator<TrainingUnit, LowRankParameters, void>;
  /** Numbers that the values are at most, and that are held meanwhile beside them. */
  size(
    settings: Settings,
    of: { readonly shapes: readonly ModuleShape[]; readonly targets: AdapterTargets },
  ): { readonly values: number; readonly preparing: number };
}

export const initializers = { "zero-b": zeroB, eva } as const satisfies Record<string, Initializer>;
