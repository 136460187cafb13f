// What becomes of a job where something went wrong: it goes on once that may have healed, it waits for somebody, or it
// is over.

import { hasErrorCode } from "../../adapters-store/durable-files.ts";
import { CotenantError } from "../../kernels/errors.ts";
import { RequestError } from "../errors.ts";
import type { RecordedProblem } from "./job-record.ts";

export type Failure = {
  readonly remedy: "retry" | "pause" | "fail";
  readonly problem: RecordedProblem;
  readonly retryAfterMs: number; // at least
  readonly isExpected: boolean; // else the log should have it
};

/** What waiting heals; all else pauses the job, so that nothing is lost whatever went wrong. */
const transientCodes = new Set([
  "engine_restarting",
  "storage_unavailable",
  "storage_conflict",
  "adapter_cache_busy",
  "adapter_cache_pinned",
  "adapter_jobs_busy",
]);
/** What nothing heals, as it is in the job itself. */
const lethalCode = "training_settings_invalid";

export function failureOf(error: unknown): Failure {
  if (isDiskFull(error)) return { remedy: "pause", problem: diskFull, retryAfterMs: 0, isExpected: true };
  if (!(error instanceof CotenantError)) {
    return { remedy: "pause", problem: internalProblem, retryAfterMs: 0, isExpected: false };
  }
  const { code, message } = error;
  const param = error instanceof RequestError ? error.param : null;
  const retryAfterMs = "retryAfterMs" in error ? Number(error.retryAfterMs) : 0;
  const problem = { code, message, ...(param !== null && { param }) };
  return { remedy: remedyOf(code), problem, retryAfterMs, isExpected: true };
}

export function remedyOf(code: string): Failure["remedy"] {
  if (transientCodes.has(code)) return "retry";
  return code === lethalCode ? "fail" : "pause";
}

const internalProblem = {
  code: "internal_error",
  message:
    "the server failed while it ran the job; its log has the cause. Resume it once the operator has looked",
};

const diskFull = {
  code: "storage_full",
  message: "there is no room for a checkpoint in the data folder; resume it once the operator has made some",
};

const sqliteFull = 13; // SQLITE_FULL

function isDiskFull(error: unknown): boolean {
  if (hasErrorCode(error, "ENOSPC", "EDQUOT", "EROFS")) return true;
  return error instanceof Error && "errcode" in error && error.errcode === sqliteFull;
}
