// The registry of devices that serve, and what `auto` says of them.

import type { DeviceOptions, OpenDevice, OpenedDevice } from "../device.ts";
import { openCpu } from "./cpu.ts";
import { cudaRefusal } from "./cuda.ts";
import { findGpu } from "./find-gpu.ts";
import { openWebgpu } from "./webgpu.ts";

export const devices = { cpu: openCpu, webgpu: openWebgpu } as const satisfies Record<string, OpenDevice>;
export type DeviceName = keyof typeof devices;
export type WantedDevice = DeviceName | "auto" | "cuda";

export type ChosenDevice = OpenedDevice & {
  readonly name: DeviceName;
  readonly note: string; // which device it is and, where `auto` chose, why
};

/** Of WebGPU, for whoever did not ask for it. */
const limits =
  "low-rank adapters only, no finetuning and no prefix cache yet (docs/webgpu.md); --device cpu has them";

/**
 * `auto` is the CPU, which has everything; where the machine has a graphics processor, the note says how to use it.
 * @throws CotenantError `device_not_available`
 */
export async function openDevice(wanted: WantedDevice, options: DeviceOptions): Promise<ChosenDevice> {
  switch (wanted) {
    case "cpu":
      return { ...(await openCpu(options)), name: "cpu", note: "the CPU" };
    case "webgpu":
      return openAskedWebgpu(options);
    case "cuda":
      throw cudaRefusal();
    case "auto":
      return openCpuWithAdvice(options);
    default:
      return wanted satisfies never;
  }
}

async function openAskedWebgpu(options: DeviceOptions): Promise<ChosenDevice> {
  const gpu = findGpu();
  const opened = await openWebgpu(options);
  const adapter = gpu.name ?? `WebGPU's default adapter (${gpu.reason})`;
  return { ...opened, name: "webgpu", note: `${adapter}: ${limits}` };
}

async function openCpuWithAdvice(options: DeviceOptions): Promise<ChosenDevice> {
  const gpu = findGpu();
  const reason = gpu.name === null ? gpu.reason : `${gpu.name} serves with --device webgpu: ${limits}`;
  return { ...(await openCpu(options)), name: "cpu", note: `the CPU: ${reason}` };
}
