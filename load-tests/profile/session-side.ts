// Runs a bench's steps in a session that writes the runtime's profile, and reads it.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bareDecode, barePrefill, openBare } from "../bench/bare-side.ts";
import type { BenchSetting } from "../bench/bench-setting.ts";
import { type SessionProfile, sessionProfile } from "./operator-times.ts";

/** Prompts that are read while prefill is profiled; the first one warms up. */
const prefillRounds = 3;

export async function profileSession(
  kind: "decode" | "prefill",
  setting: BenchSetting,
): Promise<SessionProfile> {
  const directory = mkdtempSync(join(tmpdir(), "cotenant-profile-"));
  try {
    const { runner, vocabSize, logitRowsOf, endProfiling } = await openBare(
      setting,
      join(directory, "session"),
    );
    if (kind === "decode") await bareDecode(runner, setting);
    else for (let round = 0; round <= prefillRounds; round++) await barePrefill(runner, setting);
    const prefix = endProfiling()!;
    await runner.dispose();
    const files = readdirSync(directory).map((name) => join(directory, name));
    const text = readFileSync(files.find((path) => path.startsWith(prefix))!, "utf8");
    const counted =
      kind === "decode"
        ? { steps: setting.steps, logitRows: setting.steps * logitRowsOf(setting.rows), vocabSize }
        : { steps: prefillRounds, logitRows: prefillRounds * logitRowsOf(1), vocabSize };
    return sessionProfile(text, counted);
  } finally {
    rmSync(directory, { recursive: true });
  }
}
