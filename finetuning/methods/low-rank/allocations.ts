// How ranks are spread over the modules while they train, by the name that a job asks for.

import type { ModuleShape } from "../../../kernels/training/low-rank-parameters.ts";
import type { Settings } from "../../settings.ts";
import { adalora } from "../adalora.ts";
import type { MethodContext, MethodSize } from "../method.ts";
import { type LowRankStart, LowRankTrainable } from "./low-rank-trainable.ts";

export interface Allocation {
  open(context: MethodContext, shapes: readonly ModuleShape[]): LowRankStart;
  /**
   * What moves, what else is held, and what of that a checkpoint has, of modules of so many numbers.
   * @throws SettingsError for settings that do not go with the modules
   */
  size(
    settings: Settings,
    modules: { readonly ranks: readonly number[]; readonly numbers: number },
  ): Pick<MethodSize, "trained" | "frozen" | "kept">;
}

export const allocations = {
  fixed: {
    open: ({ targets }, shapes) => new LowRankTrainable(targets, shapes),
    size: (_, { numbers }) => ({ trained: numbers, frozen: 0, kept: 0 }),
  },
  adalora,
} as const satisfies Record<string, Allocation>;
