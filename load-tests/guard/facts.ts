// What the guard holds still: facts of the graph and of a step on the embedded model that do not depend on how busy
// the machine is, and one that hardly does.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { projections } from "../../kernels/adapter.ts";
import { type GraphFeature, graphFeatures } from "../../kernels/adapter-sites.ts";
import type { BenchSetting } from "../bench/bench-setting.ts";
import { engineDecode, openEngine } from "../bench/engine-side.ts";
import { countNodes } from "./node-count.ts";
import { watchSteps } from "./step-watch.ts";

export type Facts = Readonly<Record<string, number>>;

export const outsideFact = "share of a step outside the session, 4 rows, 4 adapters";

const rounds = 3;

/** Takes some seconds. */
export async function measureFacts(): Promise<Facts> {
  const cache = mkdtempSync(join(tmpdir(), "cotenant-guard-"));
  try {
    const setting: BenchSetting = {
      model: fileURLToPath(new URL("../../models/tiny", import.meta.url)),
      cache,
      quantize: "int4",
      threads: 1,
      rows: 4,
      adapters: 4,
      rank: 16,
      projections,
      past: 130,
      steps: 24,
    };
    return {
      ...(await nodeFacts(setting)),
      ...(await stepFacts(setting)),
      [outsideFact]: await outsideShare(setting),
    };
  } finally {
    rmSync(cache, { recursive: true });
  }
}

async function nodeFacts(setting: BenchSetting): Promise<Facts> {
  const sets = [null, [], ...graphFeatures.map((feature) => [feature]), graphFeatures];
  const facts: Record<string, number> = {};
  for (const features of sets) {
    const { nodes, nodesPerLayer } = await countNodes(setting, features);
    const graph = nameOf(features);
    facts[`nodes of the ${graph}`] = nodes;
    facts[`nodes of a layer of the ${graph}`] = nodesPerLayer;
  }
  return facts;
}

function nameOf(features: readonly GraphFeature[] | null): string {
  if (features === null) return "graph without adapters";
  return features.length === 0 ? "graph" : `graph with ${features.join(", ")}`;
}

async function stepFacts(setting: BenchSetting): Promise<Facts> {
  const base = await watchSteps({ ...setting, adapters: 0 });
  const adapted = await watchSteps(setting);
  const adapterBytes = (adapted.inputBytes - base.inputBytes) / setting.adapters;
  return {
    "tensors bound to a step": adapted.inputs,
    "tensors made anew for a step, no adapters": base.freshInputs,
    "tensors made anew for a step, 4 adapters": adapted.freshInputs,
    "bytes made anew for a step of 4 rows": adapted.freshBytes,
    "bytes that a step of 4 rows returns": adapted.outputBytes,
    "bytes bound to a step for each adapter of rank 16": adapterBytes,
  };
}

/** The least of some rounds: what else the machine does only adds to it. */
async function outsideShare(setting: BenchSetting): Promise<number> {
  const long = { ...setting, steps: 300 }; // the engine tells its times ten times a second
  const engine = await openEngine(long);
  await engineDecode(engine, long);
  const shares: number[] = [];
  for (let round = 0; round < rounds; round++) shares.push((await engineDecode(engine, long)).outside);
  await engine.close();
  return Number(Math.min(...shares).toFixed(3));
}
