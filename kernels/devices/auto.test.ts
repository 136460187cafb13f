// Which device `auto` takes, and what it says of it.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { DeviceOptions, OpenDevice, OpenedDevice } from "../device.ts";
import { CotenantError } from "../errors.ts";
import { type AutoChoice, openAuto } from "./auto.ts";

const opening: OpenDevice = async () => ({}) as OpenedDevice;
const options = {} as DeviceOptions;
const choice: AutoChoice = {
  gpu: { name: "AMD GPU 1002:744c", reason: null },
  lacks: [],
  openGpu: opening,
  openCpu: opening,
};

async function chosen(changes: Partial<AutoChoice>): Promise<readonly [string, string]> {
  const { name, note } = await openAuto({ ...choice, ...changes }, options);
  return [name, note];
}

test("a GPU that lacks nothing is taken and named", async () => {
  assert.deepEqual(await chosen({}), ["webgpu", "AMD GPU 1002:744c"]);
});

test("a GPU that lacks something is advised, and never opened", async () => {
  const openGpu = () => assert.fail("it was opened");
  const [name, note] = await chosen({ lacks: ["finetuning", "prefixes"], openGpu });
  assert.equal(name, "cpu");
  assert.match(
    note,
    /^the CPU: AMD GPU 1002:744c serves with --device webgpu, without finetuning, prefixes \(/,
  );
});

test("without a GPU, and with software that plays one, it is the CPU", async () => {
  const openGpu = () => assert.fail("it was opened");
  const gpu = { name: null, reason: "no NVIDIA, AMD or Intel GPU was found" } as const;
  assert.deepEqual(await chosen({ gpu, openGpu }), ["cpu", "the CPU: no NVIDIA, AMD or Intel GPU was found"]);
});

test("a GPU that does not open leaves it to the CPU, with the reason", async () => {
  const openGpu = () =>
    Promise.reject(new CotenantError("device_not_available", "WebGPU does not open: no driver"));
  const [name, note] = await chosen({ openGpu });
  assert.equal(name, "cpu");
  assert.match(note, /AMD GPU 1002:744c does not open: WebGPU does not open: no driver$/);
});

test("a checkpoint that no device opens is refused as the CPU refuses it", async () => {
  const openGpu = () => Promise.reject(new Error("broken"));
  const openCpu = () => Promise.reject(new CotenantError("checkpoint_invalid", "no config.json"));
  await assert.rejects(openAuto({ ...choice, openGpu, openCpu }, options), { code: "checkpoint_invalid" });
});
