// Installs what package-lock.json asks for and node_modules lacks; does nothing (in some 50 ms) when all is there.
// Plain JavaScript for Node 20: it runs before the Node 24 that everything else runs on is installed.

import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const installedBinaries = join(root, "node_modules", ".bin");
const oldestNode = 20;

const nodeMajor = Number(process.versions.node.split(".")[0]);
if (nodeMajor < oldestNode) {
  fail(
    `Cotenant needs Node ${oldestNode} or newer, and this is ${process.version}. Get one at https://nodejs.org`,
  );
}

const reason = outOfDate();
if (reason !== undefined) await install(reason);

/** Why an install is needed, or undefined. */
function outOfDate() {
  const wanted = lockedPackages(join(root, "package-lock.json"));
  const installed = lockedPackages(join(root, "node_modules", ".package-lock.json"));
  if (wanted === undefined)
    fail("package-lock.json is missing: restore it with `git checkout package-lock.json`.");
  if (installed === undefined) return "first run";
  for (const [path, entry] of Object.entries(wanted)) {
    if (path === "") continue;
    const present = installed[path];
    if (present === undefined && entry.optional) continue; // for another platform
    if (present?.version !== entry.version) return `${path.replace(/^.*node_modules\//, "")} changed`;
    if (!fitsHere(present)) return "node_modules comes from another platform";
    if (!existsSync(join(root, path))) return `${path} is gone`;
  }
  return runsNode24() ? undefined : "the project's own Node is missing";
}

function lockedPackages(path) {
  return existsSync(path) ? JSON.parse(readFileSync(path, "utf8")).packages : undefined;
}

function fitsHere({ os, cpu }) {
  const allows = (list, value) =>
    !list || list.includes(value) || list.some((item) => item[0] === "!" && item !== `!${value}`);
  return allows(os, process.platform) && allows(cpu, process.arch);
}

function runsNode24() {
  const binary = join(
    root,
    "node_modules",
    "node",
    "bin",
    process.platform === "win32" ? "node.exe" : "node",
  );
  const { version } = JSON.parse(readFileSync(join(root, "node_modules", "node", "package.json"), "utf8"));
  return spawnSync(binary, ["--version"], { encoding: "utf8" }).stdout?.trim() === `v${version}`;
}

async function install(why) {
  // npm must not run on the Node in node_modules, which it is about to replace.
  const path = (process.env.PATH ?? "").split(delimiter).filter((folder) => folder !== installedBinaries);
  const npm = spawn("npm", ["ci", "--include=dev", "--include=optional"], {
    cwd: root,
    env: { ...process.env, PATH: path.join(delimiter) },
    shell: process.platform === "win32", // npm is npm.cmd there
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  npm.stdout.on("data", (chunk) => (output += chunk));
  npm.stderr.on("data", (chunk) => (output += chunk));

  const stopProgress = showProgress(`Installing dependencies (${why})`);
  const code = await new Promise((resolve) => {
    npm.on("error", (error) => {
      output += error.message;
      resolve(1);
    });
    npm.on("close", resolve);
  });
  stopProgress();
  if (code !== 0) fail(`${output.trim()}\n\n${remedyFor(output)}`);
  if (!runsNode24()) {
    fail(`npm ci ended well, but left no Node that runs on ${process.platform}/${process.arch}. If install scripts are off
(npm config get ignore-scripts), run: npm rebuild node --ignore-scripts=false`);
  }
}

/** One line, rewritten each second on a terminal; in a log, one line at the start and one at the end. */
function showProgress(title) {
  const startedAt = Date.now();
  const seconds = () => Math.round((Date.now() - startedAt) / 1000);
  const { isTTY } = process.stderr;
  process.stderr.write(isTTY ? `${title}...` : `${title}...\n`);
  const timer = isTTY
    ? setInterval(() => process.stderr.write(`\r${title}... ${seconds()} s`), 1000)
    : undefined;
  return () => {
    clearInterval(timer);
    process.stderr.write(isTTY ? `\r${title}: ${seconds()} s.   \n` : `Installed in ${seconds()} s.\n`);
  };
}

function remedyFor(output) {
  if (
    /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|ENOTCACHED|fetch failed/.test(output)
  ) {
    return "npm cannot reach its registry. Connect to the network, or point npm to a mirror (npm config set registry URL)\nor proxy (npm config set https-proxy URL), and run the same command again.";
  }
  if (/ENOSPC/.test(output)) return "The disk is full. Free about 1 GB and run the same command again.";
  if (/EACCES|EPERM/.test(output))
    return `npm may not write to ${root}. Make the folder yours and run the same command again.`;
  return "npm ci failed. Run `npm ci` yourself to see all of its output.";
}

function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}
