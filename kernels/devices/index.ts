// The registry of devices that serve, and which of them `auto` takes.

import type { DeviceOptions, OpenDevice, OpenedDevice } from "../device.ts";
import { CotenantError } from "../errors.ts";
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

/**
 * `auto` takes WebGPU where the machine has a graphics processor that opens, else the CPU; software that plays one
 * counts only where WebGPU is asked for.
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
      return openBest(options);
    default:
      return wanted satisfies never;
  }
}

async function openAskedWebgpu(options: DeviceOptions): Promise<ChosenDevice> {
  const gpu = findGpu();
  const opened = await openWebgpu(options);
  return { ...opened, name: "webgpu", note: gpu.name ?? `WebGPU's default adapter, as asked; ${gpu.reason}` };
}

async function openBest(options: DeviceOptions): Promise<ChosenDevice> {
  const gpu = findGpu();
  if (gpu.name === null) return { ...(await openCpu(options)), name: "cpu", note: `the CPU: ${gpu.reason}` };
  try {
    return { ...(await openWebgpu(options)), name: "webgpu", note: gpu.name };
  } catch (error) {
    if (!(error instanceof CotenantError && error.code === "device_not_available")) throw error;
    return {
      ...(await openCpu(options)),
      name: "cpu",
      note: `the CPU: ${gpu.name} is there, but ${error.message}`,
    };
  }
}
