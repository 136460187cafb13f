// Everybody who is measured. The first is ours; a peer with another setting is another peer, and the best counts.

import type { Contestant } from "../contestant.ts";
import { cotenant } from "./cotenant.ts";
import { llamaServer } from "./llama-server.ts";
import { nodeLlamaCpp } from "./node-llama-cpp.ts";
import { transformersJs } from "./transformers-js.ts";

export const contestants = {
  cotenant,
  "llama-server": llamaServer([]),
  "node-llama-cpp": nodeLlamaCpp,
  "transformers-js": transformersJs,
} as const satisfies Record<string, Contestant>;

export type ContestantName = keyof typeof contestants;
export const ours = "cotenant" satisfies ContestantName;
