// One greedy completion with its tokens' log-probabilities, and when two of them are the same. Answers of solo runs
// are collected before there is any load, from a server of their own that caches no prompts.

import type { AdapterFiles } from "../load/generated-adapters.ts";
import { type HttpClient, textOf } from "../load/http-client.ts";
import { promptText } from "../load/prompt-text.ts";
import { SseParser } from "../load/sse-parser.ts";
import { errorCode, StoreCalls } from "./store-calls.ts";

export type Answer = { readonly tokens: readonly string[]; readonly logprobs: readonly number[] };

/** `firstMs`: when the answer began, which is when the version was chosen at the latest. */
export type Outcome =
  | { readonly type: "answered"; readonly answer: Answer; readonly firstMs: number }
  | {
      readonly type: "refused";
      readonly status: number;
      readonly code: string;
      readonly text: string;
      readonly firstMs: number;
    };

export type Question = { readonly model: string; readonly prompt: number; readonly maxTokens: number };

export const answerTokens = { short: 8, long: 24 };

/** Between a batched run and a solo one; runs have been equal bit for bit where docs/quantization.md says so. */
export const logprobTolerance = 1e-3;

const opening = promptText(400, 2, 1); // tokens are no fewer than words: over 128 of them
/** All but the last share what the prefix cache keeps. */
export const prompts = [
  `${opening}. Order 12 boxes of`,
  `${opening}. A review: the`,
  `${opening} and so`,
  "Please",
];

export async function ask(client: HttpClient, { model, prompt, maxTokens }: Question): Promise<Outcome> {
  const body = {
    model,
    prompt: prompts[prompt],
    max_tokens: maxTokens,
    temperature: 0,
    logprobs: 1,
    ignore_eos: true,
    stream: true,
  };
  const { status, chunks } = await client.send({ method: "POST", path: "/v1/completions", key: null, body });
  if (status !== 200) {
    const text = await textOf(chunks);
    return { type: "refused", status, code: errorCode(text), text, firstMs: performance.now() };
  }
  const answer = { tokens: [] as string[], logprobs: [] as number[] };
  let firstMs: number | null = null;
  const parser = new SseParser();
  for await (const bytes of chunks) {
    for (const data of parser.push(bytes)) {
      if (data === "[DONE]") continue;
      const chunk = JSON.parse(data) as StreamedChunk;
      firstMs ??= performance.now();
      if (chunk.error !== undefined) {
        return { type: "refused", status: 200, code: chunk.error.code, text: data, firstMs };
      }
      for (const { logprobs } of chunk.choices) {
        answer.tokens.push(...(logprobs?.tokens ?? []));
        answer.logprobs.push(...(logprobs?.token_logprobs ?? []));
      }
    }
  }
  return { type: "answered", answer, firstMs: firstMs ?? performance.now() };
}

type StreamedChunk = {
  readonly error?: { readonly code: string };
  readonly choices: readonly {
    readonly logprobs?: { readonly tokens: string[]; readonly token_logprobs: number[] } | null;
  }[];
};

/** The largest difference of log-probabilities; infinite where the answer is no beginning of the solo one. */
export function distance(answer: Answer, solo: Answer): number {
  let most = 0;
  for (const [index, token] of answer.tokens.entries()) {
    if (token !== solo.tokens[index]) return Infinity;
    most = Math.max(most, Math.abs(answer.logprobs[index]! - solo.logprobs[index]!));
  }
  return most;
}

/** What the base and each content answers alone, by prompt. */
export class SoloAnswers {
  readonly baseName: string;
  readonly base: readonly Answer[];
  readonly versions: readonly string[]; // of the contents
  readonly #ofContents: readonly (readonly Answer[])[];

  private constructor(
    base: { readonly name: string; readonly answers: readonly Answer[] },
    contents: readonly { readonly version: string; readonly answers: readonly Answer[] }[],
  ) {
    this.baseName = base.name;
    this.base = base.answers;
    this.versions = contents.map(({ version }) => version);
    this.#ofContents = contents.map(({ answers }) => answers);
    this.#assertDistinct();
  }

  /** @param client of a server that nobody else uses */
  static async collect(client: HttpClient, contents: readonly AdapterFiles[]): Promise<SoloAnswers> {
    const answersOf = async (model: string) => {
      const answers: Answer[] = [];
      for (const prompt of prompts.keys()) {
        const outcome = await ask(client, { model, prompt, maxTokens: answerTokens.long });
        if (outcome.type === "refused") throw new Error(`a solo run was refused: ${outcome.text}`);
        answers.push(outcome.answer);
      }
      return answers;
    };
    const list = await client.json({ method: "GET", path: "/v1/models", key: null });
    const { data } = list as { readonly data: readonly { readonly id: string; readonly parent?: string }[] };
    const name = data.find(({ parent }) => !parent)!.id;
    const base = { name, answers: await answersOf(name) };
    const measured: { version: string; answers: Answer[] }[] = [];
    const calls = new StoreCalls(client);
    for (const files of contents) {
      const { text } = await calls.upload("solo", files);
      const { version } = JSON.parse(text) as { readonly version: string };
      measured.push({ version, answers: await answersOf("solo") });
    }
    return new SoloAnswers(base, measured);
  }

  of(content: number, prompt: number): Answer {
    return this.#ofContents[content]![prompt]!;
  }

  /** The contents that would have given this answer. */
  givenBy(answer: Answer, prompt: number): number[] {
    return [...this.#ofContents.keys()].filter(
      (content) => distance(answer, this.of(content, prompt)) <= logprobTolerance,
    );
  }

  /** A test between versions that answer alike could not fail. */
  #assertDistinct(): void {
    for (const prompt of prompts.keys()) {
      for (const content of this.#ofContents.keys()) {
        const short = beginning(this.of(content, prompt));
        const alike = this.givenBy(short, prompt);
        if (alike.length > 1) throw new Error(`contents ${alike} answer prompt ${prompt} alike`);
        if (distance(short, this.base[prompt]!) <= logprobTolerance)
          throw new Error(`content ${content} answers prompt ${prompt} as the base does`);
      }
    }
  }
}

function beginning({ tokens, logprobs }: Answer): Answer {
  return { tokens: tokens.slice(0, answerTokens.short), logprobs: logprobs.slice(0, answerTokens.short) };
}
