// Whether a prompt's keys depend on how long the prompt is, so that two prompts cannot share those of their prefix.

import type { RotaryConfig } from "../model-config.ts";

export function lengthMatters(rotaries: readonly RotaryConfig[], promptTokens: number): boolean {
  return rotaries.some(({ scaling }) => {
    switch (scaling.type) {
      case "dynamic":
        return promptTokens > scaling.originalMaxPositions;
      case "default":
      case "linear":
      case "llama3":
      case "yarn":
        return false;
      default:
        return scaling satisfies never;
    }
  });
}
