// How fast the device copies memory: what any step that reads weights is measured against.

import { GraphBuilder } from "../../kernels/onnx/graph-builder.ts";
import { GpuAllocator, GpuSession } from "../../kernels/webgpu/gpu-session.ts";
import { median, type ReportPlan } from "./report-plan.ts";

const copiesPerRound = 8;

/** @returns bytes per second, those read and those written together */
export async function deviceBandwidth({ copiedBytes, rounds }: ReportPlan): Promise<number> {
  const bus = { bytes: 0, runMs: 0 };
  const allocator = await GpuAllocator.open(bus);
  const graph = new GraphBuilder();
  graph.input("from", "float32", ["size"]);
  graph.node("Neg", ["from"], { outputs: ["to"] });
  graph.output("to", "float32", ["size"]);
  const session = await GpuSession.open({ model: graph.finish(), bus });
  const count = copiedBytes / Float32Array.BYTES_PER_ELEMENT;
  const [from, to] = [await allocator.zeros(count), await allocator.zeros(count)];
  const copy = async () => {
    for (let index = 0; index < copiesPerRound; index++) {
      await session.run({ from: from.view([count]) }, { to: to.view([count]) });
    }
    if (!(await allocator.isAlive())) throw new Error("the device was lost"); // what it computes comes after the copies
  };
  await copy();
  const seconds: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const startMs = performance.now();
    await copy();
    seconds.push((performance.now() - startMs) / 1000);
  }
  for (const buffer of [from, to]) buffer.dispose();
  await session.close();
  await allocator.close();
  return (2 * copiedBytes * copiesPerRound) / median(seconds);
}
