// `cotenant serve` as a process of its own with the embedded model, for tests of signals, exits and memory.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { neverAfterMs } from "../until.ts";

export type ServerChild = {
  readonly url: string;
  readonly process: ChildProcess;
  readonly errors: () => string; // what it has said to people so far
  readonly dataDirectory: string; // gone once it is disposed of
  /** Resolves with the exit status as a shell reports it: 128 and more where a signal ended it. */
  readonly exited: Promise<number>;
  /** The most resident memory that it ever had, in bytes; Linux only. */
  readonly peakBytes: () => number;
  readonly [Symbol.asyncDispose]: () => Promise<void>;
};

const repository = fileURLToPath(new URL("../..", import.meta.url));

export async function startChild(
  flags: readonly string[],
  nodeFlags: readonly string[] = [],
): Promise<ServerChild> {
  const directory = await mkdtemp(join(tmpdir(), "cotenant-child-"));
  const cache = join(repository, "node_modules/.cache/cotenant-test");
  const folders = ["--data", directory, "--cache", cache];
  const child = spawn(
    process.execPath,
    [
      ...nodeFlags,
      "server/cotenant.js",
      "serve",
      "--port",
      "0",
      "--log-level",
      "silent",
      ...folders,
      ...flags,
    ],
    { cwd: repository, stdio: ["ignore", "ignore", "pipe"] },
  );
  const exited = once(child, "exit").then(([status, signal]: (number | NodeJS.Signals | null)[]) =>
    typeof status === "number" ? status : 128 + constants.signals[signal as NodeJS.Signals],
  );
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    errors += text;
  });
  const dispose = async () => {
    child.kill("SIGKILL");
    await exited;
    await rm(directory, { recursive: true, force: true });
  };
  const deadlineMs = performance.now() + neverAfterMs;
  for (;;) {
    const url = / on (http:\/\/\S+)/.exec(errors)?.[1];
    if (url !== undefined) {
      const peakBytes = () => {
        const status = readFileSync(`/proc/${child.pid}/status`, "utf8");
        return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)![1]) * 1024;
      };
      const own = { url, process: child, errors: () => errors, dataDirectory: directory, exited, peakBytes };
      return { ...own, [Symbol.asyncDispose]: dispose };
    }
    if (child.exitCode !== null || performance.now() > deadlineMs) {
      await dispose();
      throw new Error(`the server did not start:\n${errors}`);
    }
    await new Promise((wake) => setTimeout(wake, 50));
  }
}
