// A server process on a free port: started, waited for until it answers, ended by its own id. Its output goes to a file.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readFileSync } from "node:fs";
import { createServer } from "node:net";

export type Launch = {
  readonly command: (port: number) => readonly string[];
  readonly cwd: string;
  readonly readyPath: string; // answers 200 when requests may come
  readonly logFile: string;
};

export type Launched = { readonly url: string; stop(): Promise<void> };

const readyLimitMs = 300_000; // the first start prepares the weights
const stopLimitMs = 15_000;

export async function launch({ command, cwd, readyPath, logFile }: Launch): Promise<Launched> {
  const port = await freePort();
  const [file, ...args] = command(port);
  const log = openSync(logFile, "w");
  const child = spawn(file!, args, { cwd, stdio: ["ignore", log, log] });
  closeSync(log);
  const exited = once(child, "exit");
  const killNow = () => child.kill("SIGKILL");
  process.once("exit", killNow); // whatever ends this process, no server stays
  const url = `http://127.0.0.1:${port}`;
  const stop = async () => {
    child.kill("SIGTERM");
    const overdue = setTimeout(() => child.kill("SIGKILL"), stopLimitMs);
    if (child.exitCode === null && child.signalCode === null) await exited;
    clearTimeout(overdue);
    process.off("exit", killNow);
  };
  const deadline = performance.now() + readyLimitMs;
  while (performance.now() < deadline && child.exitCode === null) {
    const answer = await fetch(`${url}${readyPath}`).catch(() => null);
    if (answer?.status === 200) return { url, stop };
    await new Promise((wake) => setTimeout(wake, 100));
  }
  const end = child.exitCode === null ? `was not ready after ${readyLimitMs / 1000} s` : "ended";
  await stop();
  const said = readFileSync(logFile, "utf8").slice(-2000);
  throw new Error(`a server ${end} before it answered; ${logFile} has all that it wrote:\n${said}`);
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port is free");
  return address.port;
}
