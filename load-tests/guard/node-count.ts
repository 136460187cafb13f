// How many nodes the runtime executes in one decode step, after its own optimizations.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import type { GraphFeature } from "../../kernels/adapter-sites.ts";
import { plainProfile } from "../../kernels/base-model.ts";
import { CpuRunner } from "../../kernels/cpu/cpu-runner.ts";
import { TokenPairs } from "../../kernels/cpu/token-pairs.ts";
import { openBase } from "../bench/bare-side.ts";
import type { BenchSetting } from "../bench/bench-setting.ts";
import { sessionProfile } from "../profile/operator-times.ts";

export type NodeCount = { readonly nodes: number; readonly nodesPerLayer: number };

export async function countNodes(
  setting: BenchSetting,
  features: readonly GraphFeature[] | null, // null = the graph without adapters
): Promise<NodeCount> {
  const directory = mkdtempSync(join(tmpdir(), "cotenant-nodes-"));
  try {
    const plainGraphBytes = features === null ? Number.POSITIVE_INFINITY : 0;
    const prefix = join(directory, "session");
    const base = await openBase({ ...setting, plainGraphBytes }, prefix);
    await base.offer(new Set(features));
    const runner = new CpuRunner(base, { maxRows: 1, maxContext: 64 });
    runner.open("0", { adapterVersion: null, prefix: null });
    await runner.prefill({ sequence: "0", tokenIds: [10, 11], promptLength: 2, logits: "none" });
    await runner.decode([{ sequence: "0", tokenId: 12 }]);
    (base.plainSession ?? base.session).endProfiling();
    await runner.dispose();
    const wanted = basename(features === null ? plainProfile(prefix) : prefix);
    const files = readdirSync(directory).filter((name) => name.startsWith(`${wanted}_`));
    const newest = files.sort().at(-1)!; // offering features opened a second session
    const { layers, vocabSize } = base.config;
    const counted = { steps: 1, logitRows: new TokenPairs(base).count(1), vocabSize };
    const profile = sessionProfile(readFileSync(join(directory, newest), "utf8"), counted);
    const nodesPerLayer = profile.operators
      .filter(({ nodesPerRun }) => nodesPerRun >= layers)
      .reduce((sum, { nodesPerRun }) => sum + Math.floor(nodesPerRun / layers), 0);
    return { nodes: profile.nodesPerRun, nodesPerLayer };
  } finally {
    rmSync(directory, { recursive: true });
  }
}
