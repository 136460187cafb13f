// What a job's checkpoint holds: its trainable's, its stepper's and its own state under one roof, copied piece by piece.

import { type AdapterModule, adapterBytes, type DecodedAdapter } from "../kernels/adapter.ts";
import type { CheckpointArray, JobCheckpoint } from "./job.ts";
import { stateValue } from "./methods/layer-optimizers.ts";
import type { Prepared, State, Trainable } from "./methods/method.ts";
import type { Pieces } from "./pieces.ts";

/** How many steps were skipped: since the start, and one after another just now. */
export type SkippedSteps = { readonly total: number; readonly inRow: number };

export type JobProgress = {
  readonly step: number; // steps that are done
  readonly isPrepared: boolean;
  readonly checkedStep: number; // the last one whose validation and checkpoint were reported
  readonly skipped: SkippedSteps;
};

const flatName = "values";

/** In bytes. No step may be taken before the end. */
export function* checkpointOf(
  { trainable, stepper }: Prepared,
  progress: JobProgress,
): Pieces<JobCheckpoint> {
  const { step, isPrepared, checkedStep, skipped } = progress;
  const own: State = {
    values: {
      isPrepared: Number(isPrepared),
      checkedStep,
      "skipped.total": skipped.total,
      "skipped.inRow": skipped.inRow,
    },
    arrays: isPrepared ? { [flatName]: trainable.flat } : {},
  };
  const states = Object.entries(
    isPrepared ? { job: own, trainable: trainable.state(), stepper: stepper.state() } : { job: own },
  );
  const named = <Value>(part: (state: State) => Readonly<Record<string, Value>>) =>
    states.flatMap(([owner, state]) =>
      Object.entries(part(state)).map(([name, value]) => [`${owner}.${name}`, value] as const),
    );
  const values = Object.fromEntries(named((state) => state.values));
  const arrays: Record<string, CheckpointArray> = {};
  for (const [name, array] of named((state) => state.arrays)) arrays[name] = yield* copied(array);
  return { step, values, arrays };
}

/** In bytes. No step may be taken before the end. */
export function* adapterOf(trainable: Trainable): Pieces<DecodedAdapter> {
  const modules: AdapterModule[] = [];
  for (const module of trainable.served()) {
    modules.push(module);
    yield adapterBytes({ modules: [module] });
  }
  return { modules };
}

const copiedPerPiece = 2 ** 18; // numbers

function* copied(array: CheckpointArray): Pieces<CheckpointArray> {
  const copy: CheckpointArray = Reflect.construct(array.constructor, [array.length]);
  for (let from = 0; from < array.length; from += copiedPerPiece) {
    const piece = array.subarray(from, from + copiedPerPiece);
    copy.set(piece, from);
    yield piece.byteLength;
  }
  return copy;
}

/**
 * Brings both to where the checkpoint was made.
 * @throws RangeError for a checkpoint of another job
 */
export function restoreCheckpoint({ trainable, stepper }: Prepared, checkpoint: JobCheckpoint): JobProgress {
  const own = stateOf(checkpoint, "job");
  const isPrepared = stateValue(own.values, "isPrepared") === 1;
  if (isPrepared) {
    trainable.restore(stateOf(checkpoint, "trainable"));
    const flat: CheckpointArray | undefined = own.arrays[flatName];
    if (flat?.length !== trainable.flat.length)
      throw new RangeError("the checkpoint has other trained values");
    trainable.flat.set(flat);
    stepper.restore(stateOf(checkpoint, "stepper"));
  }
  const skipped = {
    total: stateValue(own.values, "skipped.total"),
    inRow: stateValue(own.values, "skipped.inRow"),
  };
  const { checkedStep = checkpoint.step } = own.values; // before there was one, a pause left nothing to be validated
  return { step: checkpoint.step, isPrepared, checkedStep, skipped };
}

/** What a checkpoint holds of one owner: "trainable" or "stepper". */
export function stateOf({ values, arrays }: JobCheckpoint, owner: string): State {
  const own = <Value>(entries: Readonly<Record<string, Value>>) =>
    Object.fromEntries(
      Object.entries(entries)
        .filter(([name]) => name.startsWith(`${owner}.`))
        .map(([name, value]) => [name.slice(owner.length + 1), value]),
    );
  return { values: own(values), arrays: own(arrays) };
}
