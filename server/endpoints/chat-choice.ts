// Turns one choice's pieces into the parts of a chat answer: the deltas of a stream, which together are the
// whole message.

import type { ChoicePiece } from "../generation/choice.ts";
import type { KeptChoice } from "../generation/kept-choice.ts";
import { LogprobWriter } from "../generation/logprobs.ts";
import type { WithLazyLists } from "../json-parts.ts";
import type { TextModel } from "../text/text-model.ts";
import type { ChatAnswer, ChatChunk } from "./chat-completions-contract.ts";

export type ChatDelta = ChatChunk["choices"][number];

export type ChatChoiceOptions = {
  readonly index: number;
  readonly asTokenIds: boolean;
  readonly withTokenIds: boolean;
  readonly everyToken: boolean; // a chunk per token even where no text is certain yet
};

export class ChatChoiceWriter {
  readonly options: ChatChoiceOptions;
  readonly #logprobs: LogprobWriter;

  constructor(options: ChatChoiceOptions, text: TextModel) {
    this.options = options;
    this.#logprobs = new LogprobWriter(text, options);
  }

  /** OpenAI's first chunk of a choice. */
  opening(): ChatDelta {
    return { ...this.#delta(""), delta: { role: "assistant", content: "" } };
  }

  /** Null where the piece has nothing to show yet. */
  write(piece: ChoicePiece): ChatDelta | null {
    switch (piece.type) {
      case "prompt":
        return null;
      case "token": {
        const { text, tokenId, logprob } = piece;
        const { everyToken, withTokenIds } = this.options;
        if (text === "" && logprob === null && !everyToken && !withTokenIds) return null;
        const logprobs = logprob && { content: [this.#logprobs.chat(logprob)] };
        return { ...this.#delta(text, [tokenId]), logprobs };
      }
      case "finished":
        return { ...this.#delta(piece.text), finish_reason: piece.reason, stop_reason: piece.stop };
      default:
        return piece satisfies never;
    }
  }

  /** The choice where the answer is sent whole, from its kept pieces. */
  whole({ text, scored, tokenIds, ending }: KeptChoice): WithLazyLists<ChatAnswer["choices"][number]> {
    return {
      index: this.options.index,
      message: { role: "assistant", content: text, refusal: null },
      logprobs: scored && { content: this.#logprobs.wholeChat(scored) },
      finish_reason: ending.reason,
      stop_reason: ending.stop,
      ...(tokenIds && { token_ids: tokenIds }),
    };
  }

  #delta(text: string, tokenIds: readonly number[] = []): ChatDelta {
    return {
      index: this.options.index,
      delta: text === "" ? {} : { content: text },
      logprobs: null,
      finish_reason: null,
      stop_reason: null,
      ...(this.options.withTokenIds ? { token_ids: [...tokenIds] } : {}),
    };
  }
}
