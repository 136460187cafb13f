// Token ids to text, one token at a time: never half a character, and together exactly the whole decode.
// Knows no stop strings.

import type { TextTokenizer } from "./tokenizer.ts";

export interface Detokenizer {
  /** The text that became certain with this token; often "" while a character is incomplete. */
  push(tokenId: number): string;
  /** What is left when no token follows: an incomplete character comes out as U+FFFD. */
  flush(): string;
}

export type DetokenizerOptions = { readonly skipSpecialTokens: boolean };

export function createDetokenizer(tokenizer: TextTokenizer, options: DetokenizerOptions): Detokenizer {
  return tokenizer.isByteLevel
    ? new ByteLevelDetokenizer(tokenizer, options)
    : new WindowDetokenizer(tokenizer, options);
}

/** Byte-level vocabularies: a streaming UTF-8 decoder gives what decoding all bytes at once gives. */
class ByteLevelDetokenizer implements Detokenizer {
  readonly #tokenizer: TextTokenizer;
  readonly #options: DetokenizerOptions;
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });

  constructor(tokenizer: TextTokenizer, options: DetokenizerOptions) {
    this.#tokenizer = tokenizer;
    this.#options = options;
  }

  push(tokenId: number): string {
    if (this.#options.skipSpecialTokens && this.#tokenizer.isSpecial(tokenId)) return "";
    const piece = this.#tokenizer.piece(tokenId);
    if ("bytes" in piece) return this.#decoder.decode(piece.bytes, { stream: true });
    // An added token interrupts a character, as it does in the whole decode.
    return piece.text === "" ? "" : this.#decoder.decode() + piece.text;
  }

  flush(): string {
    return this.#decoder.decode();
  }
}

/**
 * Any other decoder (SentencePiece with byte fallback, WordPiece): decodes a short window twice, with and without
 * the new tokens, and takes the difference, since these decoders look at neighbours (leading spaces, byte runs).
 * The window starts one emitted step back; the same idea as vLLM's and TGI's prefix and read offsets.
 */
class WindowDetokenizer implements Detokenizer {
  readonly #tokenizer: TextTokenizer;
  readonly #options: DetokenizerOptions;
  #window: number[] = [];
  #emitted = 0; // of the window's tokens, how many are out already

  constructor(tokenizer: TextTokenizer, options: DetokenizerOptions) {
    this.#tokenizer = tokenizer;
    this.#options = options;
  }

  push(tokenId: number): string {
    this.#window.push(tokenId);
    const before = this.#tokenizer.decode(this.#window.slice(0, this.#emitted), this.#options);
    const now = this.#tokenizer.decode(this.#window, this.#options);
    if (now.length <= before.length || now.endsWith("\uFFFD")) return "";
    this.#window = this.#window.slice(this.#emitted);
    this.#emitted = this.#window.length;
    return now.slice(before.length);
  }

  flush(): string {
    const before = this.#tokenizer.decode(this.#window.slice(0, this.#emitted), this.#options);
    const now = this.#tokenizer.decode(this.#window, this.#options);
    this.#emitted = this.#window.length;
    return now.slice(before.length);
  }
}
