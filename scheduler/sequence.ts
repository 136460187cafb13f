// One request on its way through the engine: an explicit state machine, its sampler and its clock. Where its keys
// and values lie is the runner's business; when it runs is the policy's.

import { type Draw, Sampler, scoreToken } from "../kernels/sampling/sampler.ts";
import type { GenerationEvent, GenerationRequest, RequestTiming, TokenLogprob } from "./protocol.ts";
import type { SequenceSnapshot } from "./scheduling-policy.ts";

export type SequenceState = "waiting" | "prefilling" | "decoding" | "finished";

const transitions: Readonly<Record<SequenceState, readonly SequenceState[]>> = {
  waiting: ["prefilling", "finished"],
  prefilling: ["decoding", "finished"],
  decoding: ["finished"],
  finished: [],
};

export class Sequence {
  readonly request: GenerationRequest;
  #state: SequenceState = "waiting";
  #computedTokens = 0;
  #generated = 0;
  #lastTokenId = -1;
  readonly #sampler: Sampler;
  readonly #stops: ReadonlySet<number>;
  readonly #promptLogprobs: (TokenLogprob | null)[] = [null];
  readonly #enteredMs: Partial<Record<SequenceState, number>>;

  /** @param eosTokenIds the model's own; they stop the sequence unless it ignores them */
  constructor(request: GenerationRequest, eosTokenIds: readonly number[]) {
    this.request = request;
    this.#sampler = new Sampler(request.sampling, request.promptTokenIds);
    this.#stops = new Set([...(request.ignoreEos ? [] : eosTokenIds), ...request.stopTokenIds]);
    this.#enteredMs = { waiting: performance.now() };
  }

  get state(): SequenceState {
    return this.#state;
  }

  /** The token that the next decode step appends. */
  get lastTokenId(): number {
    return this.#lastTokenId;
  }

  snapshot(): SequenceSnapshot {
    const state = this.#state === "finished" ? "decoding" : this.#state;
    const { id, adapterVersion, promptTokenIds } = this.request;
    return {
      id,
      adapterVersion,
      state,
      promptTokens: promptTokenIds.length,
      computedTokens: this.#computedTokens,
    };
  }

  transition(to: SequenceState): void {
    if (!transitions[this.#state].includes(to)) {
      throw new Error(`sequence ${this.request.id} cannot go from ${this.#state} to ${to}`);
    }
    this.#state = to;
    this.#enteredMs[to] = performance.now();
  }

  /** The next `tokens` of the prompt, and which logits their run must return. */
  nextChunk(tokens: number): { tokenIds: readonly number[]; logits: "none" | "last" | "all" } {
    const end = this.#computedTokens + tokens;
    const tokenIds = this.request.promptTokenIds.slice(this.#computedTokens, end);
    if (this.request.promptLogprobs !== null) return { tokenIds, logits: "all" };
    return { tokenIds, logits: end === this.request.promptTokenIds.length ? "last" : "none" };
  }

  /**
   * Takes the result of a chunk.
   * @param logits rows that `nextChunk` asked for; overwritten
   * @returns what the client is to be told; the prompt's last chunk draws the first token
   */
  chunkDone(tokens: number, logits: readonly Float32Array[]): GenerationEvent[] {
    const { promptTokenIds, promptLogprobs } = this.request;
    if (promptLogprobs !== null) {
      for (const [index, row] of logits.entries()) {
        const next = promptTokenIds[this.#computedTokens + index + 1];
        if (next !== undefined) this.#promptLogprobs.push(asLogprob(scoreToken(row, next, promptLogprobs)));
      }
    }
    this.#computedTokens += tokens;
    if (this.#computedTokens < promptTokenIds.length) return [];
    const prompt: GenerationEvent[] =
      promptLogprobs === null ? [] : [{ type: "prompt", logprobs: this.#promptLogprobs }];
    if (this.request.maxTokens === 0) return [...prompt, this.#finish("length", null)];
    this.transition("decoding");
    return [...prompt, ...this.take(logits.at(-1)!)];
  }

  /** Draws the next token from its logits [vocab], which are overwritten. */
  take(logits: Float32Array): GenerationEvent[] {
    const { request } = this;
    const banned = this.#generated < request.minTokens ? [...this.#stops] : [];
    const draw = this.#sampler.draw(logits, request.logprobs, banned);
    if (this.#stops.has(draw.tokenId)) return [this.#finish("stop", draw.tokenId)];
    this.#lastTokenId = draw.tokenId;
    this.#generated++;
    const token: GenerationEvent = {
      type: "token",
      tokenId: draw.tokenId,
      logprob: draw.logprob === null ? null : asLogprob(draw),
    };
    return this.#generated === request.maxTokens ? [token, this.#finish("length", null)] : [token];
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
