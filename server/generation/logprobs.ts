// Log-probabilities in OpenAI's two shapes: the flat lists of completions and the records of chat.

import type { TokenLogprob } from "../../scheduler/protocol.ts";
import { LazyList, type WithLazyLists } from "../json-parts.ts";
import type { TextModel } from "../text/text-model.ts";
import type { PackedLogprobs, ScoredToken } from "./packed-logprobs.ts";

export type CompletionLogprobs = {
  readonly tokens: string[];
  readonly token_logprobs: (number | null)[];
  readonly top_logprobs: (Record<string, number> | null)[];
  readonly text_offset: number[];
};

type ChatToken = { readonly token: string; readonly logprob: number; readonly bytes: number[] };
export type ChatTokenLogprob = ChatToken & { readonly top_logprobs: ChatToken[] };

// JSON has no -Infinity; OpenAI and vLLM both write this for a token that cannot be drawn.
const lowestLogprob = -9999;

export class LogprobWriter {
  readonly #text: TextModel;
  readonly #asTokenIds: boolean;

  constructor(text: TextModel, options: { readonly asTokenIds: boolean }) {
    this.#text = text;
    this.#asTokenIds = options.asTokenIds || !text.hasTokenizer;
  }

  completion(tokens: readonly ScoredToken[]): CompletionLogprobs {
    return {
      tokens: tokens.map(this.#nameOf),
      token_logprobs: tokens.map(this.#logprobOf),
      top_logprobs: tokens.map(this.#topOf),
      text_offset: tokens.map(({ textOffset }) => textOffset),
    };
  }

  wholeCompletion(
    tokens: PackedLogprobs,
    textOffsets: () => Iterable<number>,
  ): WithLazyLists<CompletionLogprobs> {
    const each = <Part>(partOf: (token: ScoredToken) => Part) =>
      new LazyList(() => mapped(tokens.from(0), partOf));
    return {
      tokens: each(this.#nameOf),
      token_logprobs: each(this.#logprobOf),
      top_logprobs: each(this.#topOf),
      text_offset: new LazyList(textOffsets),
    };
  }

  chat({ tokenId, logprob, top }: TokenLogprob): ChatTokenLogprob {
    return {
      ...this.#chatToken(tokenId, logprob),
      top_logprobs: top.map(([id, value]) => this.#chatToken(id, value)),
    };
  }

  wholeChat(tokens: PackedLogprobs): LazyList<ChatTokenLogprob> {
    return new LazyList(() => mapped(tokens.from(0), ({ logprob }) => this.chat(logprob!)));
  }

  readonly #nameOf = ({ tokenId }: ScoredToken): string => this.#token(tokenId);

  readonly #logprobOf = ({ logprob }: ScoredToken): number | null => logprob && finite(logprob.logprob);

  /** The drawn token is always among them, as in OpenAI's and vLLM's answers. */
  readonly #topOf = ({ logprob }: ScoredToken): Record<string, number> | null => {
    if (logprob === null) return null;
    const byToken: Record<string, number> = Object.create(null);
    for (const [id, value] of [...logprob.top, [logprob.tokenId, logprob.logprob] as const])
      byToken[this.#token(id)] ??= finite(value);
    return byToken;
  };

  #chatToken(tokenId: number, logprob: number): ChatToken {
    return { token: this.#token(tokenId), logprob: finite(logprob), bytes: [...this.#bytes(tokenId)] };
  }

  #token(tokenId: number): string {
    return this.#asTokenIds ? `token_id:${tokenId}` : Buffer.from(this.#bytes(tokenId)).toString("utf8");
  }

  #bytes(tokenId: number): Uint8Array {
    if (!this.#text.hasTokenizer) return new Uint8Array();
    const piece = this.#text.tokenizer.piece(tokenId);
    return "bytes" in piece ? piece.bytes : Buffer.from(piece.text);
  }
}

function finite(logprob: number): number {
  return Math.max(logprob, lowestLogprob);
}

function* mapped<Item, Part>(items: Iterable<Item>, partOf: (item: Item) => Part): Generator<Part> {
  for (const item of items) yield partOf(item);
}
