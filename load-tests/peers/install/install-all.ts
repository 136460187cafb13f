// Everybody who is to be measured, into the prefix.

import { UsageError } from "../../load/option-values.ts";
import { type ContestantName, contestants } from "../contestants/index.ts";

/** Throws UsageError, which says what the one that failed needs and how to go on without it. */
export function installAll(names: readonly ContestantName[], prefix: string): void {
  for (const name of names) {
    const { install, needs } = contestants[name];
    try {
      install(prefix);
    } catch (error) {
      const others = names.filter((other) => other !== name);
      throw new UsageError(
        `${(error as Error).message}\n${name} could not be installed. It needs ${needs}; to go on without it: --contestants ${others}`,
      );
    }
  }
}
