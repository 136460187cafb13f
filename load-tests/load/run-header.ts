// Where figures come from: machine, commit, load average, command, server. Goes on top of every report.

import { execFileSync } from "node:child_process";
import { cpus, loadavg, totalmem } from "node:os";
import type { HttpClient } from "./http-client.ts";
import { redacted } from "./options.ts";

export type RunHeader = {
  readonly startedAt: string; // ISO 8601
  readonly command: string; // without keys
  readonly commit: string; // of the generator's checkout
  readonly machine: string;
  readonly loadAverage: number; // over the last minute, at the start
  readonly node: string;
  readonly server: string;
};

export async function runHeader(args: readonly string[], client: HttpClient): Promise<RunHeader> {
  return {
    ...machineHeader(),
    command: commandOf(args),
    server: await serverVersion(client),
  };
}

/** How to run it again, without keys. */
export function commandOf(args: readonly string[]): string {
  return [`npm run ${process.env.npm_lifecycle_event ?? "load"} --`, ...redacted(args)].join(" ");
}

/** What does not depend on a server. @param checkout whose commit it is */
export function machineHeader(checkout = import.meta.dirname): Omit<RunHeader, "command" | "server"> {
  const gibibytes = Math.round(totalmem() / 2 ** 30);
  return {
    startedAt: new Date().toISOString(),
    commit: commitOf(checkout),
    machine: `${cpus()[0]?.model.trim() ?? "unknown processor"}, ${cpus().length} cores, ${gibibytes} GiB`,
    loadAverage: loadavg()[0]!,
    node: process.version,
  };
}

function commitOf(cwd: string): string {
  const git = (...args: string[]) =>
    execFileSync("git", args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  try {
    const changed = git("status", "--porcelain", "--untracked-files=no") !== "";
    return `${git("rev-parse", "--short", "HEAD")}${changed ? " with changes" : ""}`;
  } catch {
    return "unknown"; // not a checkout
  }
}

/** vLLM's route; peers may lack it. */
async function serverVersion(client: HttpClient): Promise<string> {
  const { status, text } = await client.text({ method: "GET", path: "/version", key: null });
  return status === 200 ? text.trim().slice(0, 200) : "says nothing of its version";
}
