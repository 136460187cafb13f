// One request on its way through the engine: an explicit state machine, its sampler and its clock. Where its keys
// and values lie is the runner's business; when it runs is the policy's.

import type { Divergence } from "../kernels/sampling/blend.ts";
import {
  type LogitsQuery,
  leastQuery,
  scoreQuery,
  type TokenLogits,
} from "../kernels/sampling/logits-query.ts";
import { type Draw, Sampler, scoreToken } from "../kernels/sampling/sampler.ts";
import { type Member, membersOf, versionsOf } from "./members.ts";
import { chunkAt } from "./prompt-allowance.ts";
import type {
  Comparison,
  GenerationEvent,
  GenerationRequest,
  RequestTiming,
  TokenLogprob,
} from "./protocol.ts";
import type { SequenceSnapshot } from "./scheduling-policy.ts";
import type { ServedTokens } from "./service-counters.ts";

export type SequenceState = "waiting" | "prefilling" | "decoding" | "finished";

export type SequenceOptions = {
  readonly eosTokenIds: readonly number[]; // the model's own; they stop the sequence unless it ignores them
  readonly chunkTokens: number;
};

const transitions: Readonly<Record<SequenceState, readonly SequenceState[]>> = {
  waiting: ["prefilling", "finished"],
  prefilling: ["decoding", "waiting", "finished"],
  decoding: ["waiting", "finished"],
  finished: [],
};

/** A chunk whose every token needs logits returns [tokens, vocab] floats: this many keep it under 40 MB. */
const scoredChunkTokens = 64;
/** Comparing two rows takes an exponential for every token of the vocabulary: this many keep a step short. */
const comparedChunkTokens = 16;

/**
 * A sequence that lost its row starts over: the same chunks again, then the tokens that it had, one by one in decode
 * steps whose logits nobody reads. Every run is the one that was there before, so its keys and values are the same
 * bits, and the sampler, which is kept, goes on where it was.
 */
export class Sequence {
  readonly request: GenerationRequest;
  readonly members: readonly Member[];
  readonly adapterVersions: readonly string[]; // of all members, each once
  readonly arrivedMs = performance.now();
  readonly chunkTokens: number;
  #state: SequenceState = "waiting";
  #computedTokens = 0;
  readonly #generated: number[] = [];
  #fed = 0; // generated tokens that are in the row
  #charged: ServedTokens = { inputTokens: 0, outputTokens: 0 };
  #firstTokenMs: number | null = null;
  #lastTokenMs: number | null = null;
  readonly #sampler: Sampler;
  readonly #stops: ReadonlySet<number>;
  #promptLogprobs: (TokenLogprob | null)[] = [null];
  #compared: Comparison = { meanKl: 0, maxKl: 0, top1Agreement: 0, tokens: 0 };
  readonly #enteredMs: Partial<Record<SequenceState, number>>; // for the first time

  constructor(request: GenerationRequest, { eosTokenIds, chunkTokens }: SequenceOptions) {
    this.request = request;
    this.members = membersOf(request);
    this.adapterVersions = versionsOf(request);
    const longest = request.promptLogprobs === null ? chunkTokens : scoredChunkTokens;
    this.chunkTokens = Math.min(chunkTokens, this.#isComparison ? comparedChunkTokens : longest);
    this.#sampler = new Sampler(request.sampling, request.promptTokenIds);
    this.#stops = new Set([...(request.ignoreEos ? [] : eosTokenIds), ...request.stopTokenIds]);
    this.#enteredMs = { waiting: this.arrivedMs };
  }

  get state(): SequenceState {
    return this.#state;
  }

  get #isComparison(): boolean {
    return this.request.blend?.type === "compare";
  }

  /** The token that the next decode step appends: the newest, or one that a new row does not have yet. */
  get nextTokenId(): number {
    return this.#generated[this.#fed]!;
  }

  /** Tokens in its row. */
  get contextTokens(): number {
    return this.#computedTokens + this.#fed;
  }

  /** Tokens that its row must hold for the next token that is new. */
  get tokensToCome(): number {
    return this.request.promptTokenIds.length + this.#generated.length;
  }

  get expiresMs(): number | null {
    const { timeoutMs } = this.request;
    return timeoutMs === null ? null : this.arrivedMs + timeoutMs;
  }

  /** How many tokens were generated; those that were drawn again for a new row count once. */
  get generatedTokens(): number {
    return this.#generated.length;
  }

  snapshot(kvBytes: number): SequenceSnapshot {
    const { id, tenant, adapterVersion, priority, promptTokenIds } = this.request;
    return {
      id,
      tenant: tenant.id,
      adapterVersion,
      rows: this.members.length,
      adapterVersions: this.adapterVersions,
      priority,
      state: this.#state === "finished" ? "decoding" : this.#state,
      promptTokens: promptTokenIds.length,
      computedTokens: this.#computedTokens,
      chunkTokens: this.chunkTokens,
      contextTokens: this.contextTokens,
      kvBytes,
      arrivedMs: this.arrivedMs,
      generatedTokens: this.generatedTokens,
      firstTokenMs: this.#firstTokenMs,
      lastTokenMs: this.#lastTokenMs,
      expiresMs: this.expiresMs,
    };
  }

  transition(to: SequenceState): void {
    if (!transitions[this.#state].includes(to)) {
      throw new Error(`sequence ${this.request.id} cannot go from ${this.#state} to ${to}`);
    }
    this.#state = to;
    this.#enteredMs[to] ??= performance.now();
  }

  /** It has a row. @param cachedTokens of the prompt that are in it already; a multiple of the chunk length */
  start(cachedTokens: number): GenerationEvent[] {
    this.transition("prefilling");
    this.#computedTokens = cachedTokens;
    const isFirst = this.#charged.inputTokens === 0 && this.#generated.length === 0;
    this.#charged = { ...this.#charged, inputTokens: Math.max(this.#charged.inputTokens, cachedTokens) };
    return isFirst && cachedTokens > 0 ? [{ type: "cached", tokens: cachedTokens }] : [];
  }

  /** Its row is gone. */
  preempt(): void {
    this.transition("waiting");
    this.#computedTokens = 0;
    this.#fed = 0;
    this.#promptLogprobs = [null];
    this.#compared = { meanKl: 0, maxKl: 0, top1Agreement: 0, tokens: 0 };
  }

  /** The next tokens of the prompt, and which logits their run must return. */
  nextChunk(): { tokenIds: readonly number[]; logits: "none" | "last" | "all" } {
    const { promptTokenIds, promptLogprobs } = this.request;
    const promptTokens = promptTokenIds.length;
    const end =
      this.#computedTokens + chunkAt({ chunkTokens: this.chunkTokens, promptTokens }, this.#computedTokens);
    const tokenIds = promptTokenIds.slice(this.#computedTokens, end);
    if (this.#generated.length > 0) return { tokenIds, logits: "none" }; // what they gave is known
    if (promptLogprobs !== null || this.#isComparison) return { tokenIds, logits: "all" };
    return { tokenIds, logits: end === promptTokens ? "last" : "none" };
  }

  /**
   * Takes the result of a chunk.
   * @param logits rows that `nextChunk` asked for, maybe as `promptQuery` says; overwritten
   * @param divergences of a comparison, instead of them
   * @returns what the client is to be told; the prompt's last chunk draws the first token
   */
  chunkDone(
    tokens: number,
    logits: readonly TokenLogits[],
    divergences: readonly Divergence[] = [],
  ): GenerationEvent[] {
    const { promptTokenIds, promptLogprobs, maxTokens } = this.request;
    for (const divergence of divergences) this.#compare(divergence);
    if (promptLogprobs !== null) {
      for (const [index, row] of logits.entries()) {
        const next = promptTokenIds[this.#computedTokens + index + 1];
        if (next !== undefined) this.#promptLogprobs.push(asLogprob(scoreToken(row, next, promptLogprobs)));
      }
    }
    this.#computedTokens += tokens;
    if (this.#computedTokens < promptTokenIds.length) return [];
    if (this.#isComparison) {
      return [{ type: "compared", comparison: this.#compared }, this.#finish("length", null)];
    }
    if (this.#generated.length > 0) {
      this.transition("decoding");
      return [];
    }
    const prompt: GenerationEvent[] =
      promptLogprobs === null ? [] : [{ type: "prompt", logprobs: this.#promptLogprobs }];
    if (maxTokens === 0) return [...prompt, this.#finish("length", null)];
    this.transition("decoding");
    return [...prompt, ...this.#draw(logits.at(-1)!)];
  }

  /** What the next draw needs to know of its logits; null = all. */
  query(): LogitsQuery | null {
    if (this.#fed + 1 < this.#generated.length) return leastQuery; // what they gave is known
    return this.#sampler.query(this.request.logprobs, this.#banned);
  }

  /** What is needed to know of the logits that `nextChunk` asks for. @param wanted which of them */
  promptQuery(wanted: number): LogitsQuery | null {
    const { promptTokenIds, promptLogprobs, maxTokens } = this.request;
    if (promptLogprobs === null) return this.query();
    const next = promptTokenIds[this.#computedTokens + wanted + 1];
    if (next !== undefined) return scoreQuery(next, promptLogprobs);
    return maxTokens === 0 ? leastQuery : this.query();
  }

  /** Takes the logits of a decode step, which are overwritten. */
  take(logits: TokenLogits): GenerationEvent[] {
    this.#fed++;
    return this.#fed < this.#generated.length ? [] : this.#draw(logits);
  }

  /** Tokens that were computed for the first time since the last call, in all of its rows. */
  newlyServed(): ServedTokens {
    const inputTokens = Math.max(this.#charged.inputTokens, this.#computedTokens);
    const outputTokens = this.#generated.length;
    const rows = this.members.length; // each reads and generates all of them
    const served = {
      inputTokens: rows * (inputTokens - this.#charged.inputTokens),
      outputTokens: rows * (outputTokens - this.#charged.outputTokens),
    };
    this.#charged = { inputTokens, outputTokens };
    return served;
  }

  #compare({ kl, isSameTop }: Divergence): void {
    const tokens = this.#compared.tokens + 1;
    this.#compared = {
      meanKl: this.#compared.meanKl + (kl - this.#compared.meanKl) / tokens,
      maxKl: Math.max(this.#compared.maxKl, kl),
      top1Agreement:
        this.#compared.top1Agreement + ((isSameTop ? 1 : 0) - this.#compared.top1Agreement) / tokens,
      tokens,
    };
  }

  get #banned(): number[] {
    return this.#generated.length < this.request.minTokens ? [...this.#stops] : [];
  }

  #draw(logits: TokenLogits): GenerationEvent[] {
    const { request } = this;
    const draw = this.#sampler.draw(logits, request.logprobs, this.#banned);
    if (this.#stops.has(draw.tokenId)) return [this.#finish("stop", draw.tokenId)];
    this.#generated.push(draw.tokenId);
    this.#lastTokenMs = performance.now();
    this.#firstTokenMs ??= this.#lastTokenMs;
    const token: GenerationEvent = {
      type: "token",
      tokenId: draw.tokenId,
      logprob: draw.logprob === null ? null : asLogprob(draw),
    };
    return this.#generated.length === request.maxTokens ? [token, this.#finish("length", null)] : [token];
  }

  #finish(reason: "stop" | "length", stopTokenId: number | null): GenerationEvent {
    this.transition("finished");
    return { type: "finished", reason, stopTokenId, timing: this.#timing() };
  }

  #timing(): RequestTiming {
    const { waiting = 0, prefilling = waiting, finished = prefilling } = this.#enteredMs;
    const decoding = this.#enteredMs.decoding ?? finished;
    return {
      queuedMs: prefilling - waiting,
      prefillMs: decoding - prefilling,
      decodeMs: finished - decoding,
    };
  }
}

function asLogprob(draw: Draw): TokenLogprob {
  return { tokenId: draw.tokenId, logprob: draw.logprob!, top: draw.top };
}
