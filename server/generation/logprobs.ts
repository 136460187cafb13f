// Log-probabilities in OpenAI's two shapes: the flat lists of completions and the records of chat.

import type { TokenLogprob } from "../../scheduler/protocol.ts";
import type { TextModel } from "../text/text-model.ts";

export type PlacedLogprob = { readonly logprob: TokenLogprob; readonly textOffset: number };

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

  /** `null` for the first prompt token, which nothing precedes. */
  completion(tokens: readonly (PlacedLogprob | { readonly tokenId: number; readonly textOffset: number })[]) {
    const lists: CompletionLogprobs = { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] };
    for (const token of tokens) {
      const known = "logprob" in token ? token.logprob : null;
      lists.tokens.push(this.#token("logprob" in token ? token.logprob.tokenId : token.tokenId));
      lists.token_logprobs.push(known && finite(known.logprob));
      lists.top_logprobs.push(known && this.#topOf(known));
      lists.text_offset.push(token.textOffset);
    }
    return lists;
  }

  chat({ tokenId, logprob, top }: TokenLogprob): ChatTokenLogprob {
    return {
      ...this.#chatToken(tokenId, logprob),
      top_logprobs: top.map(([id, value]) => this.#chatToken(id, value)),
    };
  }

  /** The drawn token is always among them, as in OpenAI's and vLLM's answers. */
  #topOf({ tokenId, logprob, top }: TokenLogprob): Record<string, number> {
    const byToken: Record<string, number> = Object.create(null);
    for (const [id, value] of [...top, [tokenId, logprob] as const])
      byToken[this.#token(id)] ??= finite(value);
    return byToken;
  }

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
