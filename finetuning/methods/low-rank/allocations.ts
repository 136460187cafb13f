// How ranks are spread over the modules while they train, by the name that a job asks for.

import type { ModuleShape } from "../../../kernels/training/low-rank-parameters.ts";
import type { Settings } from "../../settings.ts";
import { adalora } from "../adalora.ts";
import type { MethodContext } from "../method.ts";
import { type LowRankStart, LowRankTrainable } from "./low-rank-trainable.ts";

export interface Allocation {
  open(context: MethodContext, shapes: readonly ModuleShape[]): LowRankStart;
  /**
   * What moves and what else is held, of modules of so many numbers.
   * @throws SettingsError for settings that do not go with the modules
   */
  size(
    settings: Settings,
    modules: { readonly ranks: readonly number[]; readonly numbers: number },
  ): { readonly trained: number; readonly frozen: number };
}

export const allocations = {
  fixed: {
    open: ({ targets }, shapes) => new LowRankTrainable(targets, shapes),
    size: (_, { numbers }) => ({ trained: numbers, frozen: 0 }),
  },
  adalora,
} as const satisfies Record<string, Allocation>;
