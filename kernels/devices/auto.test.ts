// Which device `auto` takes, and what it says of it.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { DeviceOptions, OpenDevice, OpenedDevice } from "../device.ts";
import { CotenantError } from "../errors.ts";
import { type AutoChoice, openAuto } from "./auto.ts";

const opening: OpenDevice = async () => ({}) as OpenedDevice;
const options = { model: {} } as DeviceOptions;
const choice: AutoChoice = {
  gpu: { name: "AMD GPU 1002:744c", reason: null },
  openGpu: opening,
  openCpu: opening,
};

async function chosen(changes: Partial<AutoChoice>): Promise<readonly [string, string]> {
  const { name, note } = await openAuto({ ...choice, ...changes }, options);
  return [name, note];
}

test("a GPU that opens is taken and named", async () => {
  const openCpu = () => assert.fail("the CPU was opened");
  assert.deepEqual(await chosen({ openCpu }), ["webgpu", "AMD GPU 1002:744c"]);
});

test("without a GPU, and with software that plays one, it is the CPU", async () => {
  const openGpu = () => assert.fail("it was opened");
  const gpu = { name: null, reason: "no NVIDIA, AMD or Intel GPU was found" } as const;
  assert.deepEqual(await chosen({ gpu, openGpu }), ["cpu", "the CPU: no NVIDIA, AMD or Intel GPU was found"]);
});

test("a GPU that does not open, is lost or computes wrong leaves it to the CPU, with the reason", async () => {
  const reasons = {
    device_not_available: "WebGPU does not open: no driver",
    device_lost: "the WebGPU device was lost",
    device_computes_wrong: "WebGPU computes this model otherwise than the CPU",
  };
  for (const [code, reason] of Object.entries(reasons)) {
    const openGpu = () => Promise.reject(new CotenantError(code, reason));
    assert.deepEqual(await chosen({ openGpu }), [
      "cpu",
      `the CPU: AMD GPU 1002:744c does not serve: ${reason}`,
    ]);
  }
});

test("with float16, which the CPU does not serve, a GPU that does not is an error", async () => {
  const openGpu = () => Promise.reject(new CotenantError("device_computes_wrong", "otherwise than the CPU"));
  const openCpu = () => assert.fail("the CPU was opened");
  const halves = { model: { encoding: "float16" } } as DeviceOptions;
  await assert.rejects(openAuto({ ...choice, openGpu, openCpu }, halves), { code: "device_computes_wrong" });
});

test("a checkpoint that no device opens is refused as the CPU refuses it", async () => {
  const openGpu = () => Promise.reject(new Error("broken"));
  const openCpu = () => Promise.reject(new CotenantError("checkpoint_invalid", "no config.json"));
  await assert.rejects(openAuto({ ...choice, openGpu, openCpu }, options), { code: "checkpoint_invalid" });
});
