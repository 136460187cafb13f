// Everything that crosses between the HTTP thread and the engine worker: one union each way, plain data only.
// Token ids, no text; adapter versions, no names; no tensors but an adapter's decoded modules (transferred).

import type { AdapterTargets, DecodedAdapter } from "../kernels/adapter.ts";

export type Device = "auto" | "cpu" | "webgpu" | "cuda";
export type Quantization = "int4" | "int8" | "none";

/** What the engine worker is started with. */
export type EngineOptions = {
  readonly modelDirectory: string;
  readonly cacheDirectory: string;
  readonly device: Device;
  readonly quantize: Quantization;
  readonly maxRows: number;
  readonly maxContext: number; // tokens; 0 = what the checkpoint allows, at most 8192
  readonly threads: number; // 0 = all cores
};

/** What the base model is, as the engine serves it. */
export type ServedModel = {
  readonly family: string;
  readonly device: Exclude<Device, "auto">;
  readonly quantization: Quantization;
  readonly fingerprint: string; // content hash of the checkpoint's weights and config
  readonly vocabSize: number;
  readonly layers: number;
  readonly maxContext: number; // tokens, prompt and completion together
  readonly maxRows: number;
  readonly eosTokenIds: readonly number[];
  readonly targets: AdapterTargets;
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

export type GenerationRequest = {
  readonly id: string;
  readonly promptTokenIds: readonly number[]; // at least one
  readonly adapterVersion: string | null; // null = the base alone
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

export type FinishReason = "stop" | "length";

export type GenerationEvent =
  | { readonly type: "prompt"; readonly logprobs: readonly (TokenLogprob | null)[] } // only with promptLogprobs
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

/** A gauge snapshot, sent after steps, at most every 100 ms. Counters count from the engine's start. */
export type EngineStats = {
  readonly running: number;
  readonly waiting: number;
  readonly kvTokensUsed: number;
  readonly kvTokensCapacity: number;
  readonly runningAdapters: readonly string[]; // versions with a row in the batch
  readonly waitingAdapters: readonly string[];
  readonly residentAdapters: readonly string[]; // versions that hold device slots
  readonly steps: number;
  readonly stepSeconds: number; // in the whole loop
  readonly sessionSeconds: number; // of these, inside the session's run
  readonly slotLoads: number;
  readonly slotEvictions: number;
};

/** Before the first step. */
export const idleStats: EngineStats = {
  running: 0,
  waiting: 0,
  kvTokensUsed: 0,
  kvTokensCapacity: 0,
  runningAdapters: [],
  waitingAdapters: [],
  residentAdapters: [],
  steps: 0,
  stepSeconds: 0,
  sessionSeconds: 0,
  slotLoads: 0,
  slotEvictions: 0,
};

export type ToEngine =
  | { readonly type: "submit"; readonly request: GenerationRequest }
  | { readonly type: "cancel"; readonly id: string }
  | { readonly type: "add-adapter"; readonly version: string; readonly adapter: DecodedAdapter }
  | { readonly type: "remove-adapter"; readonly version: string }
  | { readonly type: "close" };

export type FromEngine =
  | { readonly type: "progress"; readonly stage: string; readonly done: number; readonly total: number }
  | { readonly type: "ready"; readonly model: ServedModel }
  | { readonly type: "events"; readonly events: readonly (readonly [id: string, event: GenerationEvent])[] }
  | { readonly type: "refused"; readonly id: string; readonly code: string; readonly message: string }
  | { readonly type: "adapter-added"; readonly version: string }
  | {
      readonly type: "adapter-failed";
      readonly version: string;
      readonly code: string;
      readonly message: string;
    }
  | { readonly type: "adapter-removed"; readonly version: string }
  | { readonly type: "stats"; readonly stats: EngineStats }
  | { readonly type: "failed"; readonly code: string; readonly message: string }; // the engine is gone
