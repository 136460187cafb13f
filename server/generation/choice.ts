// One generated choice: the engine's tokens become text, cut at the first stop string. Knows no HTTP shapes.

import type { Engine } from "../../scheduler/engine.ts";
import type {
  FinishReason,
  GenerationRequest,
  RequestTiming,
  TokenLogprob,
} from "../../scheduler/protocol.ts";
import { createDetokenizer, type Detokenizer } from "../text/detokenizer.ts";
import { StopMatcher } from "../text/stop-matcher.ts";
import type { TextModel } from "../text/text-model.ts";
import type { TokenQuota } from "../usage/token-quota.ts";

export type ChoicePlan = {
  readonly request: GenerationRequest;
  readonly stops: readonly string[];
  readonly includeStop: boolean; // vLLM's include_stop_str_in_output
  readonly skipSpecialTokens: boolean;
};

/** What is generated, and first of all how much of the prompt needed no work, if any. */
export type EnginePiece = ChoicePiece | { readonly type: "cached"; readonly tokens: number };

export type ChoicePiece =
  | { readonly type: "prompt"; readonly logprobs: readonly (TokenLogprob | null)[] }
  | {
      readonly type: "token";
      readonly text: string; // what may be shown now; "" while a character or a stop string may be incomplete
      readonly tokenId: number;
      readonly logprob: TokenLogprob | null;
      readonly textOffset: number; // where this token's text starts in the choice's text
    }
  | {
      readonly type: "finished";
      readonly text: string; // the rest of the text
      readonly reason: FinishReason;
      readonly stop: string | number | null; // the stop string or stop_token_ids member that ended it
      readonly tokens: number; // generated, the one that ended it included, as vLLM counts
      readonly timing: RequestTiming | null; // null where a stop string ended it, which the engine does not see
    };

export type ChoiceRunner = {
  readonly engine: Pick<Engine, "generate">;
  readonly text: TextModel;
  readonly signal: AbortSignal;
  readonly quota: Pick<TokenQuota, "take">;
};

export async function* generateChoice(plan: ChoicePlan, runner: ChoiceRunner): AsyncGenerator<EnginePiece> {
  const { engine, text, signal, quota } = runner;
  const pieces = new ChoiceText(plan, text);
  for await (const event of engine.generate(plan.request, signal)) {
    switch (event.type) {
      case "cached":
      case "prompt":
        yield event;
        break;
      case "token": {
        if (!quota.take()) {
          yield cutShort(pieces);
          return;
        }
        const textOffset = pieces.decodedLength;
        const added = pieces.push(event.tokenId);
        yield { type: "token", text: added.text, tokenId: event.tokenId, logprob: event.logprob, textOffset };
        if (added.stop === null) break;
        // Leaving the loop frees the row.
        yield {
          type: "finished",
          text: "",
          reason: "stop",
          stop: added.stop,
          tokens: pieces.tokens,
          timing: null,
        };
        return;
      }
      case "finished": {
        const rest = pieces.finish(event.stopTokenId);
        const stop = rest.stop ?? requestedStop(plan.request, event.stopTokenId);
        const reason = rest.stop === null ? event.reason : "stop";
        yield {
          type: "finished",
          text: rest.text,
          reason,
          stop,
          tokens: pieces.tokens,
          timing: event.timing,
        };
        return;
      }
      case "compared":
        break; // nobody generates with that blend
      default:
        event satisfies never;
    }
  }
  signal.throwIfAborted();
  throw new Error(`the engine ended request ${plan.request.id} without a finished event`);
}

/** Where the tenant's tokens are used up. */
function cutShort(pieces: ChoiceText): EnginePiece {
  const { text, stop } = pieces.finish(null);
  const reason = stop === null ? "length" : "stop";
  return { type: "finished", text, reason, stop, tokens: pieces.tokens, timing: null };
}

/** vLLM's stop_reason: null for the model's own end-of-sequence token. */
function requestedStop(request: GenerationRequest, stopTokenId: number | null): number | null {
  return stopTokenId !== null && request.stopTokenIds.includes(stopTokenId) ? stopTokenId : null;
}

/** Detokenizer and stop matcher in series, counting tokens. Without a tokenizer the text stays empty. */
class ChoiceText {
  tokens = 0;
  decodedLength = 0;
  readonly #plan: ChoicePlan;
  readonly #detokenizer: Detokenizer | null;
  readonly #matcher: StopMatcher;

  constructor(plan: ChoicePlan, text: TextModel) {
    this.#plan = plan;
    this.#detokenizer = text.hasTokenizer ? createDetokenizer(text.tokenizer, plan) : null;
    this.#matcher = new StopMatcher(plan.stops, { includeStop: plan.includeStop });
  }

  push(tokenId: number) {
    this.tokens++;
    return this.#match(this.#detokenizer?.push(tokenId) ?? "");
  }

  finish(stopTokenId: number | null) {
    if (stopTokenId !== null) this.tokens++;
    const isShown = stopTokenId !== null && this.#plan.includeStop;
    const last = isShown ? (this.#detokenizer?.push(stopTokenId) ?? "") : "";
    const matched = this.#match(last + (this.#detokenizer?.flush() ?? ""));
    return matched.stop === null ? { text: matched.text + this.#matcher.flush(), stop: null } : matched;
  }

  #match(decoded: string) {
    this.decodedLength += decoded.length;
    // As in vLLM, stop strings count only in text that comes after the first min_tokens tokens.
    if (this.tokens <= this.#plan.request.minTokens) return { text: decoded, stop: null };
    return this.#matcher.push(decoded);
  }
}
