// Everything that crosses between the HTTP thread and the engine worker: one union each way, plain data only.
// Token ids, no text; adapter versions, no names; no tensors but an adapter's decoded modules and what a finetuning
// job goes on from (transferred).

import type { JobEvent, JobStart } from "../finetuning/job.ts";
import type { AdapterTargets, DecodedAdapter } from "../kernels/adapter.ts";
import type { DeviceName, WantedDevice } from "../kernels/devices/index.ts";
import { type Durations, noDurations } from "../kernels/durations.ts";
import type { Precision } from "../kernels/training/precision.ts";
import type { SchedulingOptions } from "./scheduling-options.ts";

export type Device = WantedDevice;
export type Quantization = "int4" | "int8" | "f16" | "none";

/** What the engine worker is started with. */
export type EngineOptions = {
  readonly modelDirectory: string;
  readonly cacheDirectory: string;
  readonly device: Device;
  readonly quantize: Quantization;
  readonly maxRows: number;
  readonly maxContext: number; // tokens; 0 = what the checkpoint allows, at most 8192
  readonly threads: number; // 0 = all cores
  readonly plainGraphBytes?: number | undefined; // of the base's matrices, up to which a second session serves it without adapters
  readonly scheduling: SchedulingOptions;
};

/** What the base model is, as the engine serves it. */
export type ServedModel = {
  readonly family: string;
  readonly device: DeviceName;
  readonly deviceNote: string; // which one it is and, where `auto` chose, why
  readonly quantization: Quantization;
  readonly fingerprint: string; // content hash of the checkpoint's weights and config
  readonly vocabSize: number;
  readonly layers: number;
  readonly maxContext: number; // tokens, prompt and completion together
  readonly maxRows: number;
  readonly maxQueue: number; // requests of one tenant that may wait at once
  readonly eosTokenIds: readonly number[];
  readonly targets: AdapterTargets;
  readonly untrainable: string | null; // why no adapter can be trained on it; null = one can
  readonly trainingPrecisions: readonly Precision[]; // of products with the base's matrices
  readonly trainingBaseBytes: number; // of the base, which the device holds once more while something is trained
};

export type SamplingParameters = {
  readonly temperature: number; // 0 = greedy
  readonly topP: number; // (0, 1], 1 = off
  readonly topK: number; // 0 = off
  readonly minP: number; // [0, 1], 0 = off
  readonly repetitionPenalty: number; // > 0, 1 = off; counts prompt and completion
  readonly presencePenalty: number; // 0 = off; counts the completion only
  readonly frequencyPenalty: number; // 0 = off; counts the completion only
  readonly logitBias: readonly (readonly [tokenId: number, bias: number])[];
  readonly seed: number; // unsigned 32-bit; the caller draws one where the user gave none
};

/** Whose a request is, and how much of the machine that entitles it to. */
export type RequestTenant = {
  readonly id: string;
  readonly weight: number; // > 0; share beside the other tenants
  readonly rowsAtOnce: number | null; // null = no limit of its own
};

/** One of several models that read a request's tokens side by side, each in a row of its own. */
export type BlendMember = {
  readonly adapterVersion: string | null;
  readonly weight: number;
};

/**
 * What becomes of the members' logits: `logits` draws from their weighted sum; `compare` measures how far the second
 * of two is from the first at every prompt token, and draws nothing.
 */
export type Blend = {
  readonly type: "logits" | "compare";
  readonly members: readonly BlendMember[];
};

export type GenerationRequest = {
  readonly id: string;
  readonly tenant: RequestTenant;
  readonly priority: number; // whole; vLLM's convention: a lower value runs earlier, 0 is usual
  readonly timeoutMs: number | null; // from arrival in the engine to the last token; null = as long as it takes
  readonly promptTokenIds: readonly number[]; // at least one
  readonly adapterVersion: string | null; // null = the base alone; of a blend, whom its tokens are counted for
  readonly blend: Blend | null; // null = the one adapter version
  readonly sampling: SamplingParameters;
  readonly maxTokens: number; // 0 is allowed: prompt log-probabilities only
  readonly minTokens: number; // end-of-sequence and stop tokens cannot be drawn before
  readonly stopTokenIds: readonly number[]; // besides the model's own end-of-sequence ids
  readonly ignoreEos: boolean;
  readonly logprobs: number | null; // null = none; n = the drawn token's and the n most likely ones
  readonly promptLogprobs: number | null; // likewise for every prompt token
};

/** Log-probabilities of the unmodified model distribution (before temperature, penalties and bias). */
export type TokenLogprob = {
  readonly tokenId: number;
  readonly logprob: number;
  readonly top: readonly (readonly [tokenId: number, logprob: number])[]; // most likely first
};

/** Of the next-token distributions after each prompt token. */
export type Comparison = {
  readonly meanKl: number; // nats, KL(first || second)
  readonly maxKl: number;
  readonly top1Agreement: number; // share of tokens whose likeliest successor is the same
  readonly tokens: number;
};

export type FinishReason = "stop" | "length";

export type GenerationEvent =
  | { readonly type: "cached"; readonly tokens: number } // of the prompt, found in the prefix cache; only if any
  | { readonly type: "prompt"; readonly logprobs: readonly (TokenLogprob | null)[] } // only with promptLogprobs
  | { readonly type: "compared"; readonly comparison: Comparison } // only with blend `compare`
  | { readonly type: "token"; readonly tokenId: number; readonly logprob: TokenLogprob | null }
  | {
      readonly type: "finished";
      readonly reason: FinishReason;
      readonly stopTokenId: number | null; // the token that ended it; it is not among the token events
      readonly timing: RequestTiming;
    };

/** Milliseconds on the engine's monotonic clock, counted from the arrival of the request in the engine. */
export type RequestTiming = {
  readonly queuedMs: number;
  readonly prefillMs: number;
  readonly decodeMs: number;
};

/** Median relative errors of the latency model's predictions; null until it has seen enough runs. */
export type LatencyErrors = { readonly decode: number | null; readonly prefill: number | null };

/** Units of one kind that ran. */
export type UnitTotals = { readonly count: number; readonly seconds: number };

/** Finetuning in the engine, since it started. */
export type TrainingStats = {
  readonly jobs: number; // that run, a unit at a time
  readonly waitingJobs: number; // for memory
  readonly units: Readonly<Record<string, UnitTotals>>; // by kind
  readonly unitsDeferred: number; // steps of serving that a unit waited for
  readonly tokens: number; // of steps that are done
  readonly steps: number;
  readonly shareOfTime: number; // of the engine's recent time while requests were there; 0 to 1
  readonly memoryBytes: number; // what the running jobs may come to use
  readonly unitError: number | null; // median relative error of the units' predicted times; null before there are any
};

/** A gauge snapshot, sent after steps, at most every 100 ms. Counters count from the engine's start. */
export type EngineStats = {
  readonly running: number;
  readonly waiting: number;
  readonly kvTokensUsed: number;
  readonly kvTokensCapacity: number;
  readonly kvBytesUsed: number; // promised to sequences with a row
  readonly kvBytesCapacity: number;
  readonly prefixQueriedTokens: number;
  readonly prefixHitTokens: number;
  readonly prefixBytes: number;
  readonly runningAdapters: readonly string[]; // versions with a row in the batch
  readonly waitingAdapters: readonly string[];
  readonly residentAdapters: readonly string[]; // versions that hold device slots
  readonly steps: number;
  readonly stepSeconds: number; // in the whole loop
  readonly sessionSeconds: number; // of these, inside the session's run
  readonly busBytes: number; // to and from a device with memory of its own
  readonly slotLoads: number;
  readonly slotLoadTimes: Durations;
  readonly slotEvictions: number;
  readonly preemptions: number;
  readonly refusedForLoad: number; // 429s of the bounded queues
  readonly timedOut: number;
  readonly lateFirstTokens: number; // requests whose first token missed the target
  readonly waitingByTenant: Readonly<Record<string, number>>; // those who have any
  readonly latencyErrors: LatencyErrors;
  readonly promptTokensPerStep: number; // what the last step beside decoding rows was allowed to prefill
  readonly training: TrainingStats;
};

export const idleTraining: TrainingStats = {
  jobs: 0,
  waitingJobs: 0,
  units: {},
  unitsDeferred: 0,
  tokens: 0,
  steps: 0,
  shareOfTime: 0,
  memoryBytes: 0,
  unitError: null,
};

/** Before the first step. */
export const idleStats: EngineStats = {
  running: 0,
  waiting: 0,
  kvTokensUsed: 0,
  kvTokensCapacity: 0,
  kvBytesUsed: 0,
  kvBytesCapacity: 0,
  prefixQueriedTokens: 0,
  prefixHitTokens: 0,
  prefixBytes: 0,
  runningAdapters: [],
  waitingAdapters: [],
  residentAdapters: [],
  steps: 0,
  stepSeconds: 0,
  sessionSeconds: 0,
  busBytes: 0,
  slotLoads: 0,
  slotLoadTimes: noDurations,
  slotEvictions: 0,
  preemptions: 0,
  refusedForLoad: 0,
  timedOut: 0,
  lateFirstTokens: 0,
  waitingByTenant: {},
  latencyErrors: { decode: null, prefill: null },
  promptTokensPerStep: 0,
  training: idleTraining,
};

export type ToEngine =
  | { readonly type: "submit"; readonly request: GenerationRequest }
  | { readonly type: "cancel"; readonly id: string }
  | { readonly type: "add-adapter"; readonly version: string; readonly adapter: DecodedAdapter }
  | { readonly type: "remove-adapter"; readonly version: string }
  | TrainingMessage
  | { readonly type: "close" };

/** `run` tells two runs of one job apart: events of a dropped one may still be under way. */
export type TrainingMessage =
  | { readonly type: "start-training"; readonly run: number; readonly job: JobStart }
  | { readonly type: "pause-training"; readonly jobId: string }
  | { readonly type: "drop-training"; readonly jobId: string }
  | { readonly type: "checkpoint-taken"; readonly jobId: string }; // the job goes on with its next step

export type FromEngine =
  | { readonly type: "progress"; readonly stage: string; readonly done: number; readonly total: number }
  | { readonly type: "ready"; readonly model: ServedModel }
  | { readonly type: "events"; readonly events: readonly (readonly [id: string, event: GenerationEvent])[] }
  | {
      readonly type: "refused"; // or ended: no event follows
      readonly id: string;
      readonly code: string;
      readonly message: string;
      readonly retryAfterMs: number | null; // when it is worth another try; null where waiting does not help
    }
  | { readonly type: "adapter-added"; readonly version: string }
  | {
      readonly type: "adapter-failed";
      readonly version: string;
      readonly code: string;
      readonly message: string;
    }
  | { readonly type: "adapter-removed"; readonly version: string }
  | { readonly type: "training"; readonly run: number; readonly event: JobEvent }
  | { readonly type: "stats"; readonly stats: EngineStats }
  | { readonly type: "failed"; readonly code: string; readonly message: string }; // the engine is gone
