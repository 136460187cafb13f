// What `--device auto` means: a graphics processor that does all that the CPU does, else the CPU; and why.

import type { DeviceOptions, OpenDevice } from "../device.ts";
import type { FoundGpu } from "./find-gpu.ts";
import type { ChosenDevice } from "./index.ts";

export type AutoChoice = {
  readonly gpu: FoundGpu;
  /** What the device for it lacks of what the CPU has; one that lacks anything is only advised. */
  readonly lacks: readonly string[];
  readonly openGpu: OpenDevice;
  readonly openCpu: OpenDevice;
};

/** A software adapter is never a graphics processor that is found: nobody gets it without asking for it. */
export async function openAuto(choice: AutoChoice, options: DeviceOptions): Promise<ChosenDevice> {
  const { gpu, lacks, openGpu, openCpu } = choice;
  const onCpu = async (reason: string): Promise<ChosenDevice> => ({
    ...(await openCpu(options)),
    name: "cpu",
    note: `the CPU: ${reason}`,
  });
  if (gpu.name === null) return onCpu(gpu.reason);
  if (!isTaken(choice)) return onCpu(`${gpu.name} serves with --device webgpu, without ${limitsOf(lacks)}`);
  try {
    return { ...(await openGpu(options)), name: "webgpu", note: gpu.name };
  } catch (error) {
    // What is wrong with the checkpoint, the CPU says in its own words.
    return onCpu(`${gpu.name} does not open: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Whether the GPU is tried. */
export function isTaken({ gpu, lacks }: Pick<AutoChoice, "gpu" | "lacks">): boolean {
  return gpu.name !== null && lacks.length === 0;
}

/** For whoever reads which device serves. */
export function limitsOf(lacks: readonly string[]): string {
  return `${lacks.join(", ")} (docs/webgpu.md)`;
}
