// How many tokens a request may have, prompt and completion together.

import { CotenantError } from "../kernels/errors.ts";
import { longestContext, type ModelConfig } from "../kernels/model-config.ts";

/** Longest context that is offered where the user names none: what a row may grow to is memory. */
const defaultMaxContext = 8192;

/** @param wanted 0 = what the checkpoint allows, at most 8192 */
export function contextFor(wanted: number, config: ModelConfig): number {
  if (wanted === 0) return Math.min(config.maxPositions, defaultMaxContext);
  const longest = longestContext(config);
  if (wanted <= longest) return wanted;
  throw new CotenantError(
    "context_too_long",
    `--max-context ${wanted} exceeds the ${longest} tokens that the checkpoint was made for; lower it`,
  );
}
