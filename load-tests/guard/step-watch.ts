// What a decode step hands to the runtime and gets from it, in tensors and bytes.

import { type Feeds, Session } from "../../kernels/session.ts";
import { bareDecode, openBare } from "../bench/bare-side.ts";
import type { BenchSetting } from "../bench/bench-setting.ts";

export type StepSizes = {
  readonly inputs: number;
  readonly inputBytes: number;
  readonly freshInputs: number; // that the step before did not have
  readonly freshBytes: number;
  readonly outputBytes: number;
};

/** Of the last step. */
export async function watchSteps(setting: BenchSetting): Promise<StepSizes> {
  const { runner } = await openBare(setting);
  const run = Session.prototype.run;
  let before: Feeds = {};
  let sizes: StepSizes | null = null;
  Session.prototype.run = async function (feeds) {
    const outputs = await run.call(this, feeds);
    const fresh = Object.entries(feeds).filter(([name, tensor]) => before[name] !== tensor);
    sizes = {
      inputs: Object.keys(feeds).length,
      inputBytes: bytesOf(Object.values(feeds)),
      freshInputs: fresh.length,
      freshBytes: bytesOf(fresh.map(([, tensor]) => tensor)),
      outputBytes: Object.values(outputs).reduce((sum, { byteLength }) => sum + byteLength, 0),
    };
    before = { ...feeds }; // the runner puts the next step's own into the same object
    return outputs;
  };
  try {
    await bareDecode(runner, setting);
  } finally {
    Session.prototype.run = run;
    await runner.dispose();
  }
  return sizes!;
}

function bytesOf(tensors: readonly Feeds[string][]): number {
  return tensors.reduce((sum, { data }) => sum + (data as Float32Array).byteLength, 0);
}
