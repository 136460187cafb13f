// What a finetuning job is to the engine: plain data that crosses threads and lies in files. Knows no HTTP, no files
// and no names of adapters.

import type { DecodedAdapter } from "../kernels/adapter.ts";
import type { Precision } from "../kernels/training/precision.ts";
import type { MethodName } from "./methods/index.ts";
import type { ObjectiveName } from "./objectives/index.ts";
import type { OptimizerName } from "./optimizers/index.ts";
import type { ScheduleName } from "./schedules/index.ts";
import type { Settings } from "./settings.ts";

/**
 * Everything that decides what a job computes, with no default left open. The same spec, examples and start give the
 * same adapter, to the bit, on one machine.
 */
export type TrainingSpec = {
  readonly method: { readonly name: MethodName; readonly settings: Settings };
  readonly objective: { readonly name: ObjectiveName; readonly beta: number }; // beta: dpo's; else unused
  readonly optimizer: { readonly name: OptimizerName; readonly settings: Readonly<Record<string, number>> };
  readonly schedule: ScheduleName;
  readonly warmupSteps: number;
  readonly learningRate: number;
  readonly epochs: number;
  readonly batchSize: number; // examples of a step
  readonly passTokens: number; // of a forward and backward pass, at most: a step is one pass or several
  readonly windowTokens: number; // of a unit of work
  readonly precision: Precision; // of the products with the base's matrices
  readonly maxGradientNorm: number; // 0 = gradients are not clipped
  readonly maxSkippedSteps: number; // in a row, with a loss that is not finite; then the job pauses
  readonly checkpointSteps: number; // a checkpoint after each so many steps, and after the last
  readonly seed: number; // unsigned 32-bit
};

/** Sequences one after another. Those of a preference pair follow each other, the chosen one first. */
export type TrainingExamples = {
  readonly tokenIds: Int32Array<ArrayBuffer>;
  readonly weights: Float32Array<ArrayBuffer>; // [tokens], in the loss; 0 = not scored, as every first token
  readonly ends: Int32Array<ArrayBuffer>; // [sequences], each one's end in `tokenIds`
};

export type JobStart = {
  readonly id: string;
  readonly tenant: { readonly id: string; readonly weight: number }; // > 0; share beside the other tenants
  readonly spec: TrainingSpec;
  readonly training: TrainingExamples;
  readonly validation: TrainingExamples | null; // measured at every checkpoint
  readonly from: DecodedAdapter | null; // an adapter to continue from
  readonly checkpoint: JobCheckpoint | null; // to go on from; with the spec and examples that it was made with
};

/** All that the steps to come depend on, beside the spec and the examples. */
export type JobCheckpoint = {
  readonly step: number; // steps that are done
  readonly values: Readonly<Record<string, number>>;
  readonly arrays: Readonly<Record<string, CheckpointArray>>;
};

export type CheckpointArray =
  | Float32Array<ArrayBuffer>
  | Float64Array<ArrayBuffer>
  | Uint8Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>;

/** Means over what was trained on: losses per weight of a token, other metrics per example. */
export type Measured = { readonly loss: number; readonly metrics: Readonly<Record<string, number>> };

export type JobEvent =
  | { readonly type: "preparing" } // from here on the job takes memory and time
  | { readonly type: "started"; readonly steps: number; readonly parameters: number } // a resumed job starts anew
  | (Measured & {
      readonly type: "step";
      readonly step: number; // counted from 1
      readonly tokens: number;
      readonly learningRate: number;
      readonly gradientNorm: number | null; // before clipping; null where the method has no gradients
      readonly skipped: boolean;
    })
  | (Measured & { readonly type: "validation"; readonly step: number })
  | { readonly type: "checkpoint"; readonly checkpoint: JobCheckpoint; readonly adapter: DecodedAdapter }
  | { readonly type: "finished" } // the last checkpoint came before
  | { readonly type: "paused"; readonly reason: JobProblem | null } // its checkpoint came before; null = as asked
  | ({ readonly type: "failed" } & JobProblem);

export type JobProblem = { readonly code: string; readonly message: string };
