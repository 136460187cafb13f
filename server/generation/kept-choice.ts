// The choices of an answer that is sent once it is whole, kept as tightly as they can be until then. Knows no answer
// shapes.

import type { AnswerMemory } from "./answer-budget.ts";
import type { ChoicePiece, ChoicePlan } from "./choice.ts";
import { PackedLogprobs, packedTokenBytes } from "./packed-logprobs.ts";

type Ending = Extract<ChoicePiece, { type: "finished" }>;

const textsPerJoin = 64; // a text of a few characters takes ten times their bytes

export class KeptChoice {
  /** Of its tokens, and before them of the prompt's where they were asked for; null = of neither. */
  readonly scored: PackedLogprobs | null;
  scoredPromptTokens = 0;
  readonly tokenIds: number[] | null;
  readonly #plan: ChoicePlan;
  readonly #scoredBytes: number; // of a token
  readonly #texts: string[] = [];
  #textBytes = 0;
  #ending: Ending | null = null;

  constructor(plan: ChoicePlan, options: { readonly withTokenIds: boolean }) {
    const { logprobs, promptLogprobs, promptTokenIds, maxTokens } = plan.request;
    const mostTokens = maxTokens + (promptLogprobs === null ? 0 : promptTokenIds.length);
    const top =
      logprobs === null && promptLogprobs === null ? null : Math.max(logprobs ?? 0, promptLogprobs ?? 0);
    this.scored = top === null ? null : new PackedLogprobs(top, mostTokens);
    this.#scoredBytes = top === null ? 0 : packedTokenBytes(top);
    this.tokenIds = options.withTokenIds ? [] : null;
    this.#plan = plan;
  }

  get text(): string {
    return this.#texts.join("");
  }

  /** Once it is whole. */
  get ending(): Ending {
    if (this.#ending === null) throw new Error(`choice ${this.#plan.request.id} has no end`);
    return this.#ending;
  }

  get bytes(): number {
    return (
      this.#textBytes + (this.tokenIds?.length ?? 0) * 8 + (this.scored?.length ?? 0) * this.#scoredBytes
    );
  }

  keep(piece: ChoicePiece): void {
    switch (piece.type) {
      case "prompt":
        for (const [position, logprob] of piece.logprobs.entries()) {
          const tokenId = this.#plan.request.promptTokenIds[position]!;
          this.scored?.push({ tokenId, logprob, textOffset: 0 });
        }
        this.scoredPromptTokens = piece.logprobs.length;
        break;
      case "token":
        this.#keepText(piece.text);
        this.tokenIds?.push(piece.tokenId);
        if (piece.logprob) this.scored?.push(piece);
        break;
      case "finished":
        this.#keepText(piece.text);
        this.#ending = piece;
        break;
      default:
        piece satisfies never;
    }
  }

  #keepText(text: string): void {
    this.#textBytes += Buffer.byteLength(text);
    this.#texts.push(text);
    if (this.#texts.length >= textsPerJoin) this.#texts.splice(0, textsPerJoin, this.text);
  }
}

/** What is kept of a generation. */
export type KeptGeneration = {
  readonly plans: readonly ChoicePlan[];
  readonly pieces: AsyncIterable<readonly [index: number, piece: ChoicePiece]>;
  readonly memory: AnswerMemory;
};

/** Throws what `pieces` does, and AnswersTooManyError. */
export async function keepChoices(
  { plans, pieces, memory }: KeptGeneration,
  options: { readonly withTokenIds: boolean },
): Promise<KeptChoice[]> {
  const choices = plans.map((plan) => new KeptChoice(plan, options));
  let bytes = 0;
  for await (const [index, piece] of pieces) {
    const choice = choices[index]!;
    bytes -= choice.bytes;
    choice.keep(piece);
    bytes += choice.bytes;
    memory.hold(bytes);
  }
  return choices;
}
