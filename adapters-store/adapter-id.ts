// The names that adapters may have. No colon (it separates base from adapter in a request) and no comma (it
// separates adapters in a metric label); slashes for owner/name.

import { AdapterError } from "../kernels/errors.ts";

const pattern = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$/;

/** Throws AdapterError `adapter_id_invalid`. */
export function checkAdapterId(id: string): void {
  if (pattern.test(id) && !id.includes("..")) return;
  throw new AdapterError(
    "adapter_id_invalid",
    `${JSON.stringify(id.slice(0, 200))} is no adapter id; use 1 to 128 of A-Z a-z 0-9 . _ / -, the first a letter or digit, without ".."`,
  );
}
