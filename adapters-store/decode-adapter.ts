// One adapter from its files to checked modules, its summary and its version. Synchronous and heavy: it runs
// in the threads of decode-pool.ts.

import { statSync } from "node:fs";
import { join } from "node:path";
import type { AdapterTargets, DecodedAdapter } from "../kernels/adapter.ts";
import { assertBounded } from "../kernels/adapter-bounds.ts";
import { AdapterError, CheckpointError } from "../kernels/errors.ts";
import { type AdapterSummary, summarize } from "./adapter-summary.ts";
import { hashAdapter } from "./adapter-version.ts";
import { adapterFormats, type ClaimedFiles } from "./formats/index.ts";

export type DecodeJob = {
  readonly directory: string;
  readonly files: ClaimedFiles;
  readonly targets: AdapterTargets;
  readonly baseFingerprint: string;
};

export type DecodeResult = {
  readonly adapter: DecodedAdapter;
  readonly summary: AdapterSummary;
  readonly version: string;
};

/** Throws AdapterError with the format's code. */
export function decodeAdapter({ directory, files, targets, baseFingerprint }: DecodeJob): DecodeResult {
  const sizeBytes = files.fileNames.reduce((sum, name) => sum + statSync(join(directory, name)).size, 0);
  const adapter = decodeFormat({ directory, files, targets, baseFingerprint });
  assertBounded(adapter);
  return {
    adapter,
    summary: summarize(adapter, { targets, sizeBytes }),
    version: hashAdapter(adapter, baseFingerprint),
  };
}

function decodeFormat({ directory, files, targets, baseFingerprint }: DecodeJob): DecodedAdapter {
  try {
    return adapterFormats[files.format].decode(directory, targets, baseFingerprint);
  } catch (error) {
    // The tensor reader is the checkpoint's; its failure here is the adapter's.
    if (error instanceof CheckpointError) throw new AdapterError(error.code, error.message, { cause: error });
    throw error;
  }
}
