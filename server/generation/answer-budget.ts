// How many bytes of answers may be in memory, all requests together: of those that are sent once they are whole, and of
// streams that are read more slowly than they are written. Each of several tenants has a part. Knows no HTTP.

import { Allowance, type Share } from "../../adapters-store/allowance.ts";
import type { GenerationRequest } from "../../scheduler/protocol.ts";
import { RequestError } from "../errors.ts";
import { packedTokenBytes } from "./packed-logprobs.ts";

export const answerBudgetBytes = 128 * 2 ** 20;

/** Up to here an answer counts as part of its connection. */
const freeBytes = 64 * 1024;
const textTokenBytes = 8;

/** Of a token as objects, on its way through a stream. */
const pieceBytes = 256;
const pieceLogprobBytes = 96;

/** What could come to be more than a tenant's part. */
export class AnswerTooLargeError extends RequestError {
  constructor(bytes: number, limitBytes: number) {
    super(
      "answer_too_large",
      `The answer could take ${bytes} bytes of the server's memory, and ${limitBytes} is the limit. It grows with n and the number of prompts, times max_tokens (and with echo the prompt's tokens), times logprobs; lower one of them, or send several requests.`,
      "max_tokens",
    );
  }
}

export class AnswersTooManyError extends RequestError {
  readonly retryAfterMs = 1000;

  constructor() {
    super(
      "answers_too_many",
      "the answers to your requests, or to all, take all of their memory; read them faster, or send it again later",
    );
  }
}

/** @param part of the whole that one tenant may have */
export function answerAllowance(part: number): Allowance {
  return new Allowance({ inAll: answerBudgetBytes, perOwner: answerBudgetBytes * part });
}

type Choices = readonly { readonly request: GenerationRequest }[];

/** What one request's answer has of it, from `begin` to its disposal. */
export class AnswerMemory implements Disposable {
  readonly #share: Share;
  readonly #reservedBytes: number;
  readonly #pieceBytes: number;
  #isOver = false;

  /** Takes nothing yet. Throws AnswerTooLargeError. */
  constructor(
    choices: Choices,
    options: { readonly allowance: Allowance; readonly owner: string; readonly isStream: boolean },
  ) {
    this.#reservedBytes = answerBytes(choices, options.isStream);
    const { perOwner } = options.allowance.limits;
    if (this.#reservedBytes - freeBytes > perOwner) {
      throw new AnswerTooLargeError(this.#reservedBytes, perOwner);
    }
    this.#share = options.allowance.share(options.owner);
    this.#pieceBytes = piecesBytes(choices[0]!.request.logprobs);
  }

  /** Throws AnswersTooManyError. */
  begin(): void {
    this.hold(this.#reservedBytes);
  }

  /** Makes it at least so much, which only an answer of unusually long tokens needs. Throws AnswersTooManyError. */
  hold(bytes: number): void {
    if (bytes <= freeBytes) return;
    if (this.#isOver || !this.#share.growTo(bytes - freeBytes)) throw new AnswersTooManyError();
  }

  /** As `hold`, for pieces of a stream that wait for its client. */
  holdUnread(pieces: number): void {
    this.hold(this.#reservedBytes + pieces * this.#pieceBytes);
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    this.#share[Symbol.dispose]();
  }
}

/** What is kept until it can be sent: of a stream what comes at once, a prompt's log-probabilities and a step's tokens. */
function answerBytes(choices: Choices, isStream: boolean): number {
  return choices.reduce((sum, { request }) => {
    const { promptTokenIds, maxTokens, logprobs, promptLogprobs } = request;
    const promptTokens = promptLogprobs === null ? 0 : promptTokenIds.length;
    if (isStream) return sum + promptTokens * piecesBytes(promptLogprobs) + piecesBytes(logprobs);
    const tokenBytes = textTokenBytes + (logprobs === null ? 0 : packedTokenBytes(logprobs));
    return sum + promptTokens * packedTokenBytes(promptLogprobs ?? 0) + maxTokens * tokenBytes;
  }, 0);
}

function piecesBytes(logprobs: number | null): number {
  return pieceBytes + (logprobs === null ? 0 : (logprobs + 1) * pieceLogprobBytes);
}
