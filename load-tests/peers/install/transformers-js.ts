// transformers.js from npm, with the prebuilt ONNX Runtime that it brings, into the prefix.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export function installTransformersJs(prefix: string): void {
  if (existsSync(transformersJsModule(prefix))) return;
  const folder = folderOf(prefix);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "package.json"), '{ "private": true }\n');
  // The packages hold their binaries for the CPU; scripts would fetch CUDA's.
  const flags = ["--ignore-scripts", "--no-audit", "--no-fund"];
  execFileSync("npm", ["install", ...flags, "@huggingface/transformers"], {
    cwd: folder,
    stdio: ["ignore", 2, 2],
  });
}

export function transformersJsModule(prefix: string): string {
  return join(packageFolder(prefix, "@huggingface/transformers"), "dist/transformers.node.mjs");
}

export function transformersJsVersion(prefix: string): string {
  const versionOf = (name: string) =>
    JSON.parse(readFileSync(join(packageFolder(prefix, name), "package.json"), "utf8")).version;
  return `transformers.js ${versionOf("@huggingface/transformers")} (ONNX Runtime ${versionOf("onnxruntime-node")})`;
}

/** Not node-llama-cpp's: the one's installation would touch the other's. */
function folderOf(prefix: string): string {
  return join(prefix, "npm-transformers");
}

function packageFolder(prefix: string, name: string): string {
  return join(folderOf(prefix), "node_modules", name);
}
