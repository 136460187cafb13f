// The CPU as a device: always there, serves every adapter kind, finetunes.

import { openBaseModel } from "../base-model.ts";
import { CpuRunner } from "../cpu/cpu-runner.ts";
import type { OpenDevice } from "../device.ts";

export const openCpu: OpenDevice = async ({ model, maxRows, maxContext, maxKvBytes, prefixCacheBytes }) => {
  const base = await openBaseModel(model);
  const runner = new CpuRunner(base, {
    maxRows,
    maxContext,
    maxPrefixBytes: prefixCacheBytes,
    ...(maxKvBytes === 0 ? {} : { maxKvBytes }),
  });
  return { base, runner, trainable: base, failure: new Promise(() => {}) };
};
