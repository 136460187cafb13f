// The contract of a device: it opens a checkpoint and gives a runner that serves it. A new device is one file in
// kernels/devices and a line in its index; what a run computes is model-runner.ts's contract.

import type { BaseModel, BaseModelOptions, PreparedBase } from "./base-model.ts";
import type { ModelRunner } from "./model-runner.ts";

export type DeviceOptions = {
  readonly model: BaseModelOptions;
  readonly maxRows: number;
  readonly maxContext: number;
  readonly maxKvBytes: number; // 0 = all rows at the whole context
  readonly prefixCacheBytes: number;
};

export type OpenedDevice = {
  readonly base: Pick<PreparedBase, "config" | "fingerprint" | "eosTokenIds">;
  readonly runner: ModelRunner;
  /** What finetuning computes with; null where the device trains nothing. */
  readonly trainable: BaseModel | null;
  /** Rejected once the device is lost; pending otherwise. */
  readonly failure: Promise<never>;
};

/** @throws CotenantError `device_not_available` where the machine has no such device */
export type OpenDevice = (options: DeviceOptions) => Promise<OpenedDevice>;
