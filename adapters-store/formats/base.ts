// The base's own weights for the formats that need them.

import type { AdapterTargets } from "../../kernels/adapter.ts";
import { AdapterError } from "../../kernels/errors.ts";
import { openStoredBase, type StoredBase } from "../../kernels/stored-base.ts";

/** `need` begins the refusal's message. Throws AdapterError `adapter_base_unavailable`. */
export function openBase({ checkpointDirectory }: AdapterTargets, need: string): StoredBase {
  if (checkpointDirectory !== undefined) return openStoredBase(checkpointDirectory);
  throw new AdapterError(
    "adapter_base_unavailable",
    `${need}, which takes the base's checkpoint, and it is not at hand; start the server from a checkpoint directory`,
  );
}
