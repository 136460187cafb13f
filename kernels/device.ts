// The contract of a device: it opens a checkpoint and gives a runner that serves it. A new device is one file in
// kernels/devices and a line in its index; what a run computes is model-runner.ts's contract.

import type { BaseModelOptions, PreparedBase } from "./base-model.ts";
import type { ForwardProbes } from "./forward-probes.ts";
import type { ModelRunner } from "./model-runner.ts";
import type { Precision } from "./training/precision.ts";
import type { TrainingKernel } from "./training/training-kernel.ts";

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
  readonly training: DeviceTraining;
  /** Rejected once the device is lost; pending otherwise. */
  readonly failure: Promise<never>;
};

/** What finetuning computes with. */
export type DeviceTraining = {
  readonly problem: string | null; // why no adapter can be trained on the base; null = one can
  /** How the base's matrices can be multiplied with there. */
  readonly precisions: readonly Precision[];
  /** Of the base, in memory of the device's own as long as a kernel is open. */
  readonly baseBytes: number;
  /** @throws CotenantError `training_unsupported` */
  readonly openKernel: () => Promise<TrainingKernel>;
  readonly probes: (kernel: TrainingKernel) => ForwardProbes;
};

/** @throws CotenantError `device_not_available` where the machine has no such device */
export type OpenDevice = (options: DeviceOptions) => Promise<OpenedDevice>;
