// Turns one choice's pieces into the parts of a text completion: the chunks of a stream, which together are the
// whole answer.

import type { ChoicePiece, ChoicePlan } from "../generation/choice.ts";
import { type CompletionLogprobs, LogprobWriter } from "../generation/logprobs.ts";
import { createDetokenizer } from "../text/detokenizer.ts";
import type { TextModel } from "../text/text-model.ts";
import type { CompletionChoice } from "./completions-contract.ts";

export type CompletionChoiceOptions = {
  readonly index: number;
  readonly plan: ChoicePlan;
  readonly echo: string | null; // the prompt's text, where the answer repeats it
  readonly asTokenIds: boolean;
  readonly withTokenIds: boolean;
  readonly everyToken: boolean; // a chunk per token even where no text is certain yet
};

export class CompletionChoiceWriter {
  readonly #options: CompletionChoiceOptions;
  readonly #text: TextModel;
  readonly #logprobs: LogprobWriter;
  #echoDue: string | null;

  constructor(options: CompletionChoiceOptions, text: TextModel) {
    this.#options = options;
    this.#text = text;
    this.#logprobs = new LogprobWriter(text, options);
    this.#echoDue = options.echo;
  }

  /** Null where the piece has nothing to show yet. */
  write(piece: ChoicePiece): CompletionChoice | null {
    switch (piece.type) {
      case "prompt":
        return this.#chunk("", this.#promptLogprobs(piece.logprobs));
      case "token": {
        const { text, tokenId, logprob, textOffset } = piece;
        const logprobs =
          logprob && this.#logprobs.completion([{ logprob, textOffset: this.#echoLength + textOffset }]);
        const { everyToken, withTokenIds } = this.#options;
        const isDue =
          text !== "" || logprobs !== null || everyToken || withTokenIds || this.#echoDue !== null;
        return isDue ? this.#chunk(text, logprobs, [tokenId]) : null;
      }
      case "finished":
        return { ...this.#chunk(piece.text, null), finish_reason: piece.reason, stop_reason: piece.stop };
      default:
        return piece satisfies never;
    }
  }

  get #echoLength(): number {
    return this.#options.echo?.length ?? 0;
  }

  #chunk(
    text: string,
    logprobs: CompletionLogprobs | null,
    tokenIds: readonly number[] = [],
  ): CompletionChoice {
    const echo = this.#echoDue ?? "";
    this.#echoDue = null;
    return {
      index: this.#options.index,
      text: echo + text,
      logprobs,
      finish_reason: null,
      stop_reason: null,
      ...(this.#options.withTokenIds ? { token_ids: [...tokenIds] } : {}),
    };
  }

  #promptLogprobs(logprobs: Extract<ChoicePiece, { type: "prompt" }>["logprobs"]): CompletionLogprobs {
    const { plan } = this.#options;
    const detokenizer = this.#text.hasTokenizer ? createDetokenizer(this.#text.tokenizer, plan) : null;
    let textOffset = 0;
    const placed = logprobs.map((logprob, position) => {
      const tokenId = plan.request.promptTokenIds[position]!;
      const token = logprob ? { logprob, textOffset } : { tokenId, textOffset };
      textOffset += detokenizer?.push(tokenId).length ?? 0;
      return token;
    });
    return this.#logprobs.completion(placed);
  }
}

/** The whole choice from its chunks; logprobs that were asked for are there even when no token was drawn. */
export function joinCompletionChunks(
  chunks: readonly CompletionChoice[],
  options: { readonly withLogprobs: boolean },
): CompletionChoice {
  const last = chunks.at(-1)!;
  const logprobs = chunks.flatMap((chunk) => chunk.logprobs ?? []);
  return {
    ...last,
    text: chunks.map(({ text }) => text).join(""),
    logprobs: options.withLogprobs
      ? {
          tokens: logprobs.flatMap((part) => part.tokens),
          token_logprobs: logprobs.flatMap((part) => part.token_logprobs),
          top_logprobs: logprobs.flatMap((part) => part.top_logprobs),
          text_offset: logprobs.flatMap((part) => part.text_offset),
        }
      : null,
    ...(last.token_ids ? { token_ids: chunks.flatMap((chunk) => chunk.token_ids ?? []) } : {}),
  };
}
