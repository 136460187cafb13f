// No Docker engine runs in CI: this runs the Dockerfile's own steps in clean folders, one per stage, then its CMD
// and its HEALTHCHECK. Users do not exist there, so `chown` is a stand-in and USER is only required to be there.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { basename, delimiter, dirname, join, matchesGlob, relative } from "node:path";
import { packageRoot } from "../server/package-root.ts";
import {
  type Instruction,
  parseDockerfile,
  parseEnvironment,
  parseExecForm,
  type Stage,
} from "./dockerfile.ts";
import { askServer, withServer } from "./server-process.ts";

const folder = mkdtempSync(join(tmpdir(), "cotenant-image-"));

type BuiltStage = {
  readonly root: string; // stands for /
  readonly environment: Record<string, string>;
  workingDirectory: string; // within the image, absolute
  command?: string;
  healthCheck?: string;
  user?: string;
};

const ignored = readFileSync(join(packageRoot, ".dockerignore"), "utf8").split("\n").filter(Boolean);
const built = new Map<string, BuiltStage>();

function isInContext(path: string): boolean {
  const inContext = relative(packageRoot, path);
  return !ignored.some((pattern) => inContext === pattern || matchesGlob(inContext, pattern));
}

function build({ name, instructions }: Stage): BuiltStage {
  const stage: BuiltStage = { root: join(folder, name), environment: {}, workingDirectory: "/" };
  mkdirSync(stage.root);
  for (const instruction of instructions) apply(instruction, stage);
  built.set(name, stage);
  return stage;
}

function apply({ name, text, line }: Instruction, stage: BuiltStage): void {
  console.log(`Dockerfile:${line} ${name} ${text.slice(0, 80)}`);
  const here = join(stage.root, stage.workingDirectory);
  switch (name) {
    case "WORKDIR":
      stage.workingDirectory = text;
      mkdirSync(join(stage.root, text), { recursive: true });
      return;
    case "ENV":
      Object.assign(stage.environment, parseEnvironment(text));
      return;
    case "COPY":
      copy(text, here);
      return;
    case "RUN":
      execFileSync("sh", ["-ec", insideRoot(text, stage)], {
        cwd: here,
        env: processEnvironment(stage),
        stdio: "inherit",
      });
      return;
    case "USER":
      stage.user = text;
      return;
    case "HEALTHCHECK":
      stage.healthCheck = text.replace(/^.*?CMD /, "");
      return;
    case "CMD":
      stage.command = text;
  }
}

function copy(text: string, here: string): void {
  const words = text.split(/\s+/);
  const from = /^--from=(.+)$/.exec(words[0]!)?.[1];
  if (from !== undefined) words.shift();
  const target = words.pop()!;
  for (const source of words) {
    const path = from === undefined ? join(packageRoot, source) : join(built.get(from)!.root, source);
    const destination = target.endsWith("/") ? join(here, target, basename(source)) : join(here, target);
    mkdirSync(dirname(destination), { recursive: true });
    const filter = from === undefined ? isInContext : () => true;
    cpSync(path, destination, { recursive: true, filter, verbatimSymlinks: true });
  }
}

/** The image's own absolute paths, moved under the folder that stands for its root. */
function insideRoot(text: string, { root }: BuiltStage): string {
  return text.replaceAll(
    /(^|[\s=])\/(app|data|cache)\b/g,
    (_, before: string, path: string) => `${before}${root}/${path}`,
  );
}

function processEnvironment(stage: BuiltStage): NodeJS.ProcessEnv {
  const fromImage = Object.entries(stage.environment).map(([name, value]) => [
    name,
    insideRoot(value, stage),
  ]);
  const { HOME, npm_config_registry, NODE_EXTRA_CA_CERTS } = process.env;
  const path = [join(folder, "bin"), dirname(process.execPath), process.env.PATH].join(delimiter);
  return { HOME, npm_config_registry, NODE_EXTRA_CA_CERTS, PATH: path, ...Object.fromEntries(fromImage) };
}

try {
  mkdirSync(join(folder, "bin"));
  writeFileSync(join(folder, "bin", "chown"), "#!/bin/sh\nexit 0\n");
  chmodSync(join(folder, "bin", "chown"), 0o755);

  const stages = parseDockerfile(readFileSync(join(packageRoot, "Dockerfile"), "utf8"));
  const image = stages.map(build).at(-1)!;
  assert.equal(image.user, "node", "the image must not run as root");
  const [command, ...args] = parseExecForm(image.command!);
  const [checkProgram, ...checkArgs] = parseExecForm(image.healthCheck!);
  const cwd = join(image.root, image.workingDirectory);
  const environment = { ...processEnvironment(image), COTENANT_PORT: String(await freePort()) }; // 8000 may be taken
  const keyless = spawnSync(command, args, { cwd, env: environment, encoding: "utf8" });
  assert.match(keyless.stderr, /keys_missing/, "the image serves others without keys");
  const keysFile = join(image.root, "keys.json");
  const keysCommand = ["server/cotenant.js", "keys", "add", "--keys", keysFile, "--tenant", "check"];
  const key = execFileSync(command, keysCommand, { cwd, env: environment, encoding: "utf8" }).trim();
  const keyed = { ...environment, COTENANT_KEYS: keysFile };
  await withServer({ command, args, cwd, environment: keyed }, async (url) => {
    execFileSync(checkProgram, checkArgs, { cwd, env: keyed, stdio: "inherit" });
    await askServer(url.replace("0.0.0.0", "127.0.0.1"), key);
  });
  console.log(
    "dockerfile check: the image's steps run, its server asks for keys, is healthy, answers and stops",
  );
} finally {
  rmSync(folder, { recursive: true });
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "0.0.0.0");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
