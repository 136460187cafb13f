#!/usr/bin/env node
// The command `cotenant`: finds a way to run main.ts. Plain JavaScript, since it may start on a Node that cannot
// strip types. An installed package holds compiled code only; a checkout holds TypeScript and its own Node 24.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { restartWithTunedMalloc } from "./glibc-malloc.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const inCheckout = existsSync(join(root, "server", "main.ts"));

const oldestForCompiled = 24; // it uses AsyncDisposableStack

if (!inCheckout) {
  if (Number(process.versions.node.split(".")[0]) < oldestForCompiled) {
    console.error(`cotenant needs Node ${oldestForCompiled} or newer, and this is ${process.version}.`);
    process.exit(1);
  }
  restartWithTunedMalloc(process.argv.slice(1));
  await import("../dist/server/main.js");
} else if (process.features.typescript) {
  restartWithTunedMalloc(process.argv.slice(1));
  await import("./main.ts");
} else {
  runOnOwnNode();
}

function runOnOwnNode() {
  const node = join(root, "node_modules", "node", "bin", process.platform === "win32" ? "node.exe" : "node");
  if (!existsSync(node)) {
    console.error(
      `Node ${process.version} cannot run TypeScript. Run \`npm ci\` in ${root}, or use Node 24.`,
    );
    process.exit(1);
  }
  const child = spawn(node, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], { stdio: "inherit" });
  // A terminal sends Ctrl-C to both processes; whoever sends SIGTERM knows only this one.
  process.on("SIGINT", () => {});
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  child.on("exit", (code, signal) => process.exit(signal ? 128 + constants.signals[signal] : code));
}
