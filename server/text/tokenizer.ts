// Text to token ids and back, over a Hugging Face tokenizer.json. The only file that imports
// @huggingface/tokenizers. Knows no templates, no streams.

import { Tokenizer } from "@huggingface/tokenizers";
import { CheckpointError } from "../../kernels/errors.ts";
import { UntokenizableTextError } from "../errors.ts";
import { bytesOfByteLevelToken } from "./byte-level.ts";

/** What one token adds to the text: raw bytes that may be part of a character, or a whole text (added tokens). */
export type TokenPiece = { readonly bytes: Uint8Array } | { readonly text: string };

type DecoderConfig = { readonly type?: string; readonly decoders?: readonly DecoderConfig[] } | null;

const byteFallbackToken = /^<0x([0-9A-Fa-f]{2})>$/;

export class TextTokenizer {
  /** Whether every token maps to bytes of its own, so that text is their concatenation. */
  readonly isByteLevel: boolean;
  readonly #tokenizer: Tokenizer;
  readonly #special: ReadonlySet<number>;
  readonly #added: ReadonlyMap<number, { readonly content: string }>;
  readonly #dividers: RegExp;
  readonly #pieces = new Map<number, TokenPiece>();
  #longestTokenLength: number | null = null;

  constructor(tokenizerJson: object, tokenizerConfig: object) {
    try {
      this.#tokenizer = new Tokenizer(tokenizerJson, tokenizerConfig);
    } catch (error) {
      const cause = error instanceof Error ? error.message : String(error);
      throw new CheckpointError("invalid_tokenizer", `tokenizer.json cannot be used: ${cause}`, {
        cause: error,
      });
    }
    const added = this.#tokenizer.get_added_tokens_decoder();
    this.#added = added;
    const { normalizer } = this.#tokenizer;
    this.#dividers = anyOf(
      [...added.values()]
        .filter((token) => normalizer === null || !token.normalized)
        .map((token) => token.content),
    );
    const special = new Set<number>();
    for (const [id, token] of added) if (token.special) special.add(id);
    for (const token of additionalSpecialTokens(tokenizerConfig)) {
      const id = this.#tokenizer.token_to_id(token);
      if (id !== undefined) special.add(id);
    }
    this.#special = special;
    this.isByteLevel = isByteLevel((tokenizerJson as { decoder?: DecoderConfig }).decoder ?? null);
  }

  encode(text: string, options: { readonly addSpecialTokens: boolean }): number[] {
    if (text === "" && !options.addSpecialTokens) return [];
    const { ids } = this.#tokenizer.encode(text, { add_special_tokens: options.addSpecialTokens });
    if (!ids.every((id: number) => Number.isInteger(id) && id >= 0)) throw new UntokenizableTextError();
    return ids;
  }

  /**
   * Parts that can be encoded one by one, without special tokens, as if they stood in the text: each begins with the
   * added token that the one before it ends with, which both have.
   */
  partsOf(text: string): string[] {
    const parts: string[] = [];
    let from = 0;
    for (const { index, 0: token } of text.matchAll(this.#dividers)) {
      parts.push(text.slice(from, index + token.length));
      from = index;
    }
    return [...parts, text.slice(from)];
  }

  /** Ids beyond the vocabulary (padding of the embedding matrix) add nothing to the text. */
  decode(tokenIds: readonly number[], options: { readonly skipSpecialTokens: boolean }): string {
    const visible = tokenIds.filter((id) => this.#isVisible(id, options.skipSpecialTokens));
    if (visible.length === 0) return "";
    // The package's clean-up rewrites " ." to "." and the like, text that the model did not write.
    return this.#tokenizer.decode(visible, {
      skip_special_tokens: false,
      clean_up_tokenization_spaces: false,
    });
  }

  /** No text of so many characters has fewer. */
  leastTokens(characters: number): number {
    return Math.ceil(characters / this.#longestToken());
  }

  /** Characters; no token stands for more. A byte's spelling has one, too. */
  #longestToken(): number {
    if (this.#longestTokenLength !== null) return this.#longestTokenLength;
    let longest = 1;
    for (const token of this.#tokenizer.get_vocab().keys()) longest = Math.max(longest, token.length);
    this.#longestTokenLength = longest;
    return longest;
  }

  isSpecial(tokenId: number): boolean {
    return this.#special.has(tokenId);
  }

  idOf(token: string): number | undefined {
    return this.#tokenizer.token_to_id(token);
  }

  /** The token alone; `bytes` may be an incomplete character. */
  piece(tokenId: number): TokenPiece {
    const known = this.#pieces.get(tokenId);
    if (known) return known;
    const piece = this.#makePiece(tokenId);
    this.#pieces.set(tokenId, piece);
    return piece;
  }

  /** The vocabulary's own spelling of a token, as vLLM's `token_strs` gives it. */
  spelling(tokenId: number): string {
    return this.#tokenizer.id_to_token(tokenId) ?? "";
  }

  #isVisible(tokenId: number, skipSpecialTokens: boolean): boolean {
    if (skipSpecialTokens && this.#special.has(tokenId)) return false;
    return this.#tokenizer.id_to_token(tokenId) !== undefined;
  }

  #makePiece(tokenId: number): TokenPiece {
    const added = this.#added.get(tokenId);
    if (added) return { text: added.content };
    const token = this.#tokenizer.id_to_token(tokenId);
    if (token === undefined) return { text: "" };
    if (this.isByteLevel) return { bytes: bytesOfByteLevelToken(token) ?? Buffer.from(token) };
    const byte = byteFallbackToken.exec(token);
    if (byte) return { bytes: Uint8Array.of(Number.parseInt(byte[1]!, 16)) };
    return { text: token.replaceAll("▁", " ") };
  }
}

/** Of several that begin at one place the longest, as the package takes them. */
function anyOf(texts: readonly string[]): RegExp {
  const longestFirst = texts
    .filter((text) => text !== "")
    .sort((one, other) => other.length - one.length)
    .map((text) => text.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&"));
  return new RegExp(longestFirst.length === 0 ? "(?!)" : longestFirst.join("|"), "g");
}

function isByteLevel(decoder: DecoderConfig): boolean {
  if (decoder?.type === "Sequence")
    return decoder.decoders?.length === 1 && isByteLevel(decoder.decoders[0]!);
  return decoder?.type === "ByteLevel";
}

function additionalSpecialTokens(config: object): string[] {
  const listed = (config as { additional_special_tokens?: unknown }).additional_special_tokens;
  return Array.isArray(listed) ? listed.filter((token) => typeof token === "string") : [];
}
