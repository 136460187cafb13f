// Turns one choice's pieces into the parts of a text completion: the chunks of a stream, which together are the
// whole answer.

import type { ChoicePiece, ChoicePlan } from "../generation/choice.ts";
import type { KeptChoice } from "../generation/kept-choice.ts";
import { type CompletionLogprobs, LogprobWriter } from "../generation/logprobs.ts";
import type { WithLazyLists } from "../json-parts.ts";
import { createDetokenizer } from "../text/detokenizer.ts";
import type { TextModel } from "../text/text-model.ts";
import type { CompletionChoice } from "./completions-contract.ts";
import type { PromptEcho } from "./prompt.ts";

export type CompletionChoiceOptions = {
  readonly index: number;
  readonly plan: ChoicePlan;
  readonly echo: PromptEcho | null; // where the answer repeats the prompt
  readonly asTokenIds: boolean;
  readonly withTokenIds: boolean;
  readonly everyToken: boolean; // a chunk per token even where no text is certain yet
};

export class CompletionChoiceWriter {
  readonly options: CompletionChoiceOptions;
  readonly #text: TextModel;
  readonly #logprobs: LogprobWriter;
  #isEchoDue: boolean;

  constructor(options: CompletionChoiceOptions, text: TextModel) {
    this.options = options;
    this.#text = text;
    this.#logprobs = new LogprobWriter(text, options);
    this.#isEchoDue = options.echo !== null;
  }

  /** To be awaited before `write` and `whole`. */
  async prepare(): Promise<void> {
    await this.options.echo?.prepare();
  }

  /** Null where the piece has nothing to show yet. */
  write(piece: ChoicePiece): CompletionChoice | null {
    switch (piece.type) {
      case "prompt":
        return this.#chunk("", this.#promptLogprobs(piece.logprobs));
      case "token": {
        const { text, tokenId, logprob, textOffset } = piece;
        const logprobs =
          logprob &&
          this.#logprobs.completion([{ tokenId, logprob, textOffset: this.#echoLength + textOffset }]);
        const { everyToken, withTokenIds } = this.options;
        const isDue = text !== "" || logprobs !== null || everyToken || withTokenIds || this.#isEchoDue;
        return isDue ? this.#chunk(text, logprobs, [tokenId]) : null;
      }
      case "finished":
        return { ...this.#chunk(piece.text, null), finish_reason: piece.reason, stop_reason: piece.stop };
      default:
        return piece satisfies never;
    }
  }

  /** The choice where the answer is sent whole, from its kept pieces. */
  whole(kept: KeptChoice): WithLazyLists<CompletionChoice> {
    const { scored, tokenIds, ending } = kept;
    const { echo, index } = this.options;
    const offsets = () => this.#textOffsets(kept);
    return {
      index,
      text: (echo?.text ?? "") + kept.text,
      logprobs: scored && this.#logprobs.wholeCompletion(scored, offsets),
      finish_reason: ending.reason,
      stop_reason: ending.stop,
      ...(tokenIds && { token_ids: tokenIds }),
    };
  }

  get #echoLength(): number {
    return this.options.echo?.text.length ?? 0;
  }

  #chunk(
    text: string,
    logprobs: CompletionLogprobs | null,
    tokenIds: readonly number[] = [],
  ): CompletionChoice {
    const echo = this.#isEchoDue ? this.options.echo!.text : "";
    this.#isEchoDue = false;
    return {
      index: this.options.index,
      text: echo + text,
      logprobs,
      finish_reason: null,
      stop_reason: null,
      ...(this.options.withTokenIds ? { token_ids: [...tokenIds] } : {}),
    };
  }

  #promptLogprobs(logprobs: Extract<ChoicePiece, { type: "prompt" }>["logprobs"]): CompletionLogprobs {
    const { promptTokenIds } = this.options.plan.request;
    const offsets = [...this.#promptOffsets()];
    return this.#logprobs.completion(
      logprobs.map((logprob, position) => {
        return { tokenId: promptTokenIds[position]!, logprob, textOffset: offsets[position]! };
      }),
    );
  }

  *#textOffsets({ scoredPromptTokens, scored }: KeptChoice): Generator<number> {
    if (scoredPromptTokens > 0) yield* this.#promptOffsets();
    for (const { textOffset } of scored!.from(scoredPromptTokens)) yield this.#echoLength + textOffset;
  }

  /** Where each of the prompt's tokens begins in its text. */
  *#promptOffsets(): Generator<number> {
    const { plan } = this.options;
    const detokenizer = this.#text.hasTokenizer ? createDetokenizer(this.#text.tokenizer, plan) : null;
    let textOffset = 0;
    for (const tokenId of plan.request.promptTokenIds) {
      yield textOffset;
      textOffset += detokenizer?.push(tokenId).length ?? 0;
    }
  }
}
