// A program whose many lines matter only where it fails.

import { spawnSync } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";

/** Its output goes to the file. Throws with the end of it where the program fails. */
export function runQuietly([file, ...args]: readonly string[], logFile: string): void {
  const log = openSync(logFile, "w");
  const { status, error } = spawnSync(file!, args, { stdio: ["ignore", log, log] });
  closeSync(log);
  if (error !== undefined) throw error;
  if (status === 0) return;
  const end = readFileSync(logFile, "utf8").slice(-2000);
  throw new Error(
    `${file} ${args.join(" ")} ended with status ${status}; all of it is in ${logFile}:\n${end}`,
  );
}
