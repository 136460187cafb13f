// What `--device auto` means: a graphics processor that computes what the CPU computes, else the CPU; and why.

import type { DeviceOptions, OpenDevice } from "../device.ts";
import type { FoundGpu } from "./find-gpu.ts";
import type { ChosenDevice } from "./index.ts";

export type AutoChoice = {
  readonly gpu: FoundGpu;
  readonly openGpu: OpenDevice; // rejects where it computes wrong
  readonly openCpu: OpenDevice;
};

/** A software adapter is never a graphics processor that is found: nobody gets it without asking for it. */
export async function openAuto(choice: AutoChoice, options: DeviceOptions): Promise<ChosenDevice> {
  const { gpu, openGpu, openCpu } = choice;
  const onCpu = async (reason: string): Promise<ChosenDevice> => ({
    ...(await openCpu(options)),
    name: "cpu",
    note: `the CPU: ${reason}`,
  });
  if (gpu.name === null) return onCpu(gpu.reason);
  try {
    return { ...(await openGpu(options)), name: "webgpu", note: gpu.name };
  } catch (error) {
    if (options.model.encoding === "float16") throw error; // the CPU has none
    // What is wrong with the checkpoint, the CPU says in its own words.
    return onCpu(`${gpu.name} does not serve: ${error instanceof Error ? error.message : String(error)}`);
  }
}
