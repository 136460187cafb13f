// The registry of backends.

import type { StorageBackend } from "./backend.ts";
import { openLocalBackend } from "./local.ts";
import { openS3Backend } from "./s3.ts";

export const backends = {
  local: openLocalBackend,
  s3: openS3Backend,
} as const satisfies Record<string, (options: never) => Promise<StorageBackend>>;

export type BackendKind = keyof typeof backends;
export type BackendOptions = {
  [Kind in BackendKind]: { readonly kind: Kind } & Parameters<(typeof backends)[Kind]>[0];
}[BackendKind];

export function openBackend(options: BackendOptions): Promise<StorageBackend> {
  const open: (options: never) => Promise<StorageBackend> = backends[options.kind];
  return open(options as never); // the options type pairs each kind with its own
}
