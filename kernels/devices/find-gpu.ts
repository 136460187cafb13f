// Whether the machine has a graphics processor, without opening one: WebGPU itself would as well find software that
// plays one, and Node's binding does not say which adapter it took.

import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";

/** PCI vendors whose devices compute; virtual machines' and servers' plain screens are of others. */
const vendors: Readonly<Record<string, string>> = {
  "0x10de": "NVIDIA",
  "0x1002": "AMD",
  "0x8086": "Intel",
};

export type FoundGpu =
  | { readonly name: string; readonly reason: null }
  | { readonly name: null; readonly reason: string };

export type GpuPlaces = {
  readonly platform: NodeJS.Platform;
  readonly architecture: string;
  readonly root: string; // of the file system
};

const here: GpuPlaces = { platform: process.platform, architecture: process.arch, root: "/" };

export function findGpu({ platform, architecture, root }: GpuPlaces = here): FoundGpu {
  if (platform === "darwin" && architecture === "arm64") return found("the GPU of this Mac");
  if (platform === "linux" && architecture === "x64") return onLinux(root);
  if (platform === "win32") {
    return missing("on Windows it cannot be told whether WebGPU's adapter is a GPU; try --device webgpu");
  }
  return missing(`the runtime has no WebGPU for ${platform} ${architecture}`);
}

/** Names of what Vulkan's drivers keep open; NVIDIA's has devices of its own. */
const gpuNode = /^\/dev\/(dri\/renderD\d+|nvidia\d+)$/;

/**
 * Whether this process holds a graphics processor open, once WebGPU runs. Where none is, WebGPU took software: it
 * prefers every GPU that has a driver. Told on Linux only; elsewhere no software adapter is taken for a GPU (`findGpu`).
 */
export function isGpuOpen({ platform, root }: Omit<GpuPlaces, "architecture"> = here): boolean {
  if (platform !== "linux") return true;
  const files = join(root, "proc/self/fd");
  return readdirSync(files).some((file) => gpuNode.test(targetOf(join(files, file))));
}

/** The file that lists the folder is closed again when its link is read. */
function targetOf(link: string): string {
  try {
    return readlinkSync(link);
  } catch {
    return "";
  }
}

function onLinux(root: string): FoundGpu {
  const cards = join(root, "sys/class/drm");
  const names = existsSync(cards) ? readdirSync(cards).filter((name) => /^renderD\d+$/.test(name)) : [];
  for (const name of names) {
    const vendor = readId(join(cards, name, "device/vendor"));
    const device = readId(join(cards, name, "device/device"));
    const known = vendors[vendor];
    if (known !== undefined)
      return found(`${known} GPU ${vendor.slice(2)}:${device.slice(2)}, through Vulkan`);
  }
  const nvidia = join(root, "proc/driver/nvidia/gpus"); // in containers there is no render node
  const [bus] = existsSync(nvidia) ? readdirSync(nvidia) : [];
  if (bus === undefined) return missing("no NVIDIA, AMD or Intel GPU was found");
  const model = /^Model:\s*(.+)$/m.exec(readFileSync(join(nvidia, bus, "information"), "utf8"))?.[1];
  return found(`${model ?? "NVIDIA GPU"}, through Vulkan`);
}

function readId(path: string): string {
  return existsSync(path) ? readFileSync(path, "utf8").trim() : "";
}

function found(name: string): FoundGpu {
  return { name, reason: null };
}

function missing(reason: string): FoundGpu {
  return { name: null, reason };
}
