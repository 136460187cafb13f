// The text side of a checkpoint: tokenizer and chat template, each of which may be missing.
// Knows no files and no weights.

import { ChatTemplateMissingError, TextTooLongError, TokenizerMissingError } from "../errors.ts";
import type { ChatMessage, ChatTemplate, RenderOptions } from "./chat-template.ts";
import type { LongTextEncoder } from "./long-text-encoder.ts";
import type { TextTokenizer } from "./tokenizer.ts";

export type TextParts = {
  readonly tokenizer: TextTokenizer | null;
  readonly template: ChatTemplate | null;
};

/** Whose text is encoded, which may wait for its turn, and how many tokens it may come to. */
export type Sender = {
  readonly tenantId: string;
  readonly signal: AbortSignal;
  readonly maxTokens?: number; // default: as many as there are
};

export type EncodeOptions = {
  readonly addSpecialTokens: boolean;
  readonly sender?: Sender | undefined; // default: the server itself, without a limit
};

export type ChatText = RenderOptions & { readonly messages: readonly ChatMessage[] };

const longTextLength = 4096; // characters; encoding them takes a few milliseconds
const manyMessages = 64; // rendering them takes a few milliseconds
const manyTokens = 8192; // decoding them takes a few milliseconds

type LongTexts = Pick<LongTextEncoder, "encode" | "decode">;

export class TextModel {
  readonly #parts: TextParts;
  readonly #longTexts: LongTexts | null;

  /** Without an encoder for long texts, they are encoded here like any other. */
  constructor(parts: TextParts, longTexts: LongTexts | null = null) {
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

  /** Throws TokenizerMissingError, UntokenizableTextError, TextTooLongError and the signal's reason. */
  async encode(text: string, options: EncodeOptions): Promise<readonly number[]> {
    const { tokenizer } = this;
    refuseTooLong(text, tokenizer, options.sender?.maxTokens);
    if (this.#longTexts && text.length > longTextLength) return this.#longTexts.encode(text, options);
    return tokenizer.encode(text, options);
  }

  /** As `encode`, of a conversation through the template; also throws ChatTemplateMissingError and ChatTemplateError. */
  async encodeChat(chat: ChatText, options: EncodeOptions): Promise<readonly number[]> {
    const { tokenizer } = this;
    const { template } = this.#parts;
    if (!template) throw new ChatTemplateMissingError();
    const isLong = chat.messages.length > manyMessages || lengthOf(chat.messages) > longTextLength;
    if (this.#longTexts && isLong) return this.#longTexts.encode(chat, options);
    return encodeHere(chat, { tokenizer, template }, { ...options, maxTokens: options.sender?.maxTokens });
  }

  /** Special tokens included. Throws TokenizerMissingError and the signal's reason. */
  async decode(tokenIds: readonly number[], sender: Sender): Promise<string> {
    if (this.#longTexts && tokenIds.length > manyTokens) return this.#longTexts.decode(tokenIds, sender);
    return decodeHere(tokenIds, this.#parts);
  }

  /** Prompt text of a conversation; control tokens are in it already. Throws ChatTemplateMissingError. */
  renderChat(messages: readonly ChatMessage[], options: RenderOptions): string {
    if (!this.#parts.template) throw new ChatTemplateMissingError();
    return this.#parts.template.render(messages, options);
  }
}

export type EncodeHere = { readonly addSpecialTokens: boolean; readonly maxTokens?: number | undefined };

/** Holds up its thread. Throws what `encode` and `encodeChat` do. */
export function encodeHere(source: string | ChatText, parts: TextParts, options: EncodeHere): number[] {
  const { tokenizer, template } = parts;
  if (!tokenizer) throw new TokenizerMissingError();
  if (typeof source !== "string" && !template) throw new ChatTemplateMissingError();
  const text = typeof source === "string" ? source : template!.render(source.messages, source);
  refuseTooLong(text, tokenizer, options.maxTokens);
  return tokenizer.encode(text, options);
}

/** Holds up its thread. Throws TokenizerMissingError. */
export function decodeHere(tokenIds: readonly number[], { tokenizer }: TextParts): string {
  if (!tokenizer) throw new TokenizerMissingError();
  return tokenizer.decode(tokenIds, { skipSpecialTokens: false });
}

/** What cannot fit, whatever its tokens, is not worth encoding. Throws TextTooLongError. */
function refuseTooLong(text: string, tokenizer: TextTokenizer, maxTokens = Number.POSITIVE_INFINITY): void {
  const least = text.length <= maxTokens ? 0 : tokenizer.leastTokens(text.length);
  if (least > maxTokens) throw new TextTooLongError({ maximum: maxTokens, characters: text.length, least });
}

function lengthOf(messages: readonly ChatMessage[]): number {
  return messages.reduce((sum, { content }) => sum + content.length, 0);
}
