// The registry of devices that serve, and what each name of `--device` opens.

import type { DeviceOptions, OpenDevice, OpenedDevice } from "../device.ts";
import type { MatrixEncoding } from "../prepare/layout.ts";
import { halvesRefusal } from "../webgpu/half-matrices.ts";
import { openAuto } from "./auto.ts";
import { openCpu } from "./cpu.ts";
import { cudaRefusal } from "./cuda.ts";
import { findGpu, isGpuOpen } from "./find-gpu.ts";
import { openGpu, openWebgpu } from "./webgpu.ts";

export const devices = { cpu: openCpu, webgpu: openWebgpu } as const satisfies Record<string, OpenDevice>;
export type DeviceName = keyof typeof devices;
export type WantedDevice = DeviceName | "auto" | "cuda";

export type ChosenDevice = OpenedDevice & {
  readonly name: DeviceName;
  readonly note: string; // which device it is and, where `auto` chose, why
};

/**
 * What can be told without opening a device. WebGPU says itself whether it has float16.
 * @throws CotenantError `float16_not_available`
 */
export function checkEncoding(wanted: WantedDevice, encoding: MatrixEncoding): void {
  if (encoding !== "float16") return;
  if (wanted === "cpu") throw halvesRefusal("the CPU computes in float32");
  if (wanted !== "auto") return;
  const { reason } = findGpu();
  if (reason !== null) throw halvesRefusal(reason);
}

/** @throws CotenantError `device_not_available`, `device_computes_wrong`, `float16_not_available` */
export async function openDevice(wanted: WantedDevice, options: DeviceOptions): Promise<ChosenDevice> {
  checkEncoding(wanted, options.model.encoding);
  switch (wanted) {
    case "cpu":
      return { ...(await openCpu(options)), name: "cpu", note: "the CPU" };
    case "webgpu":
      return openAskedWebgpu(options);
    case "cuda":
      throw cudaRefusal();
    case "auto":
      return openAuto({ gpu: findGpu(), openGpu, openCpu }, options);
    default:
      return wanted satisfies never;
  }
}

/** Whether a device with memory of its own may come to serve. */
export function triesWebgpu(wanted: WantedDevice): boolean {
  return wanted === "webgpu" || (wanted === "auto" && findGpu().name !== null);
}

async function openAskedWebgpu(options: DeviceOptions): Promise<ChosenDevice> {
  const gpu = findGpu();
  const opened = await openWebgpu(options);
  const other = gpu.reason ?? `${gpu.name} has no Vulkan driver here`;
  const note = gpu.name !== null && isGpuOpen() ? gpu.name : `WebGPU's default adapter (${other})`;
  return { ...opened, name: "webgpu", note };
}
