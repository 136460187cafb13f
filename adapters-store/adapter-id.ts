// The names that adapters and their owners may have. No colon in an id (it separates base from adapter in a
// request) and no comma (it separates adapters in a metric label); slashes for team/name.

import { AdapterError } from "../kernels/errors.ts";

/** Whose adapters those of a server without tenants are. */
export const defaultOwner = "default";

const idPattern = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$/;
const ownerPattern = /^[\x21-\x7e]{1,256}$/;

/** Throws AdapterError `adapter_id_invalid`. */
export function checkAdapterId(id: string): void {
  if (idPattern.test(id) && !id.includes("..")) return;
  throw new AdapterError(
    "adapter_id_invalid",
    `${JSON.stringify(id.slice(0, 200))} is no adapter id; use 1 to 128 of A-Z a-z 0-9 . _ / -, the first a letter or digit, without ".."`,
  );
}

/** Throws AdapterError `adapter_owner_invalid`. */
export function checkOwner(owner: string): void {
  if (ownerPattern.test(owner)) return;
  throw new AdapterError(
    "adapter_owner_invalid",
    `${JSON.stringify(owner.slice(0, 300))} is no owner; use 1 to 256 printable ASCII characters without spaces`,
  );
}
