// The text side of a checkpoint: tokenizer and chat template, each of which may be missing.
// Knows no files and no weights.

import { ChatTemplateMissingError, TokenizerMissingError } from "../errors.ts";
import type { ChatMessage, ChatTemplate, RenderOptions } from "./chat-template.ts";
import type { LongTextEncoder } from "./long-text-encoder.ts";
import type { TextTokenizer } from "./tokenizer.ts";

export type TextParts = {
  readonly tokenizer: TextTokenizer | null;
  readonly template: ChatTemplate | null;
};

const longTextLength = 4096; // characters; encoding them takes a few milliseconds

export class TextModel {
  readonly #parts: TextParts;
  readonly #longTexts: Pick<LongTextEncoder, "encode"> | null;

  /** Without an encoder for long texts, they are encoded here like any other. */
  constructor(parts: TextParts, longTexts: Pick<LongTextEncoder, "encode"> | null = null) {
    this.#parts = parts;
    this.#longTexts = longTexts;
  }

  get hasTokenizer(): boolean {
    return this.#parts.tokenizer !== null;
  }

  /** Throws TokenizerMissingError. */
  get tokenizer(): TextTokenizer {
    if (!this.#parts.tokenizer) throw new TokenizerMissingError();
    return this.#parts.tokenizer;
  }

  /** Throws TokenizerMissingError and UntokenizableTextError. */
  async encode(text: string, options: { readonly addSpecialTokens: boolean }): Promise<readonly number[]> {
    const { tokenizer } = this;
    if (this.#longTexts && text.length > longTextLength) return this.#longTexts.encode(text, options);
    return tokenizer.encode(text, options);
  }

  /** Prompt text of a conversation; control tokens are in it already. Throws ChatTemplateMissingError. */
  renderChat(messages: readonly ChatMessage[], options: RenderOptions): string {
    if (!this.#parts.template) throw new ChatTemplateMissingError();
    return this.#parts.template.render(messages, options);
  }
}
