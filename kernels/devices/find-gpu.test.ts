// What counts as a graphics processor, on file systems made for it.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { findGpu, isGpuOpen } from "./find-gpu.ts";

function found(files: Record<string, string>, platform: NodeJS.Platform = "linux", architecture = "x64") {
  const root = mkdtempSync(join(tmpdir(), "cotenant-gpu-"));
  try {
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), text);
    }
    return findGpu({ platform, architecture, root });
  } finally {
    rmSync(root, { recursive: true });
  }
}

const card = (name: string, vendor: string, device = "0x1234") => ({
  [`sys/class/drm/${name}/device/vendor`]: `${vendor}\n`,
  [`sys/class/drm/${name}/device/device`]: `${device}\n`,
});

test("a render node of a vendor that computes is named", () => {
  assert.match(found(card("renderD128", "0x1002", "0x744c")).name ?? "", /^AMD GPU 1002:744c/);
  const second = { ...card("renderD128", "0x1af4"), ...card("renderD129", "0x8086", "0x46a6") };
  assert.match(found(second).name ?? "", /^Intel GPU 8086:46a6/);
});

test("a virtual machine's screen, a screen without a render node and nothing at all do not count", () => {
  for (const files of [card("renderD128", "0x1af4"), card("card0", "0x10de"), {}]) {
    assert.match(found(files).reason ?? "", /no NVIDIA, AMD or Intel GPU/);
  }
});

test("NVIDIA's driver counts without a render node, as in containers", () => {
  const path = "proc/driver/nvidia/gpus/0000:01:00.0/information";
  assert.match(found({ [path]: "Model: \t\t NVIDIA H200\nIRQ: 1\n" }).name ?? "", /^NVIDIA H200/);
});

test("where the runtime has no WebGPU, or software cannot be told from a GPU, the reason is given", () => {
  const amd = card("renderD128", "0x1002");
  assert.match(found(amd, "linux", "arm64").reason ?? "", /no WebGPU for linux arm64/);
  assert.match(found(amd, "darwin", "x64").reason ?? "", /no WebGPU for darwin x64/);
  assert.match(found({}, "win32").reason ?? "", /--device webgpu/);
  assert.match(found({}, "darwin", "arm64").name ?? "", /Mac/);
});

test("a GPU is open where a driver holds its node, and elsewhere than on Linux", () => {
  const isOpen = (targets: readonly string[], platform: NodeJS.Platform = "linux") => {
    const root = mkdtempSync(join(tmpdir(), "cotenant-gpu-"));
    try {
      mkdirSync(join(root, "proc/self/fd"), { recursive: true });
      for (const [file, target] of targets.entries()) symlinkSync(target, join(root, `proc/self/fd/${file}`));
      return isGpuOpen({ platform, root });
    } finally {
      rmSync(root, { recursive: true });
    }
  };
  const others = ["/dev/null", "socket:[17]", "/dev/dri/card0", "/dev/nvidia-uvm", "/dev/udmabuf"];
  assert.equal(isOpen(others), false);
  for (const node of ["/dev/dri/renderD128", "/dev/nvidia0"]) assert.equal(isOpen([...others, node]), true);
  assert.equal(isOpen([], "darwin"), true);
});
