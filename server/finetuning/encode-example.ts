// One training example as token sequences. What stands before an answer is what a request with the same messages
// would prefill, token for token; the answer is what serving would then have to draw, with the token that stops it.

import { setImmediate } from "node:timers/promises";
import type { ServedModel } from "../../scheduler/protocol.ts";
import { RequestError } from "../errors.ts";
import type { ChatMessage } from "../text/chat-template.ts";
import type { TextModel } from "../text/text-model.ts";
import type {
  ChatExample,
  CompletionExample,
  PreferenceExample,
  TrainingExample,
} from "./training-example.ts";

export type ExampleEncoderOptions = {
  readonly text: TextModel;
  readonly model: Pick<ServedModel, "eosTokenIds" | "vocabSize">;
  readonly maxTokens: number; // a sequence that is longer already is not finished
  readonly trainOnPrompt: boolean; // prompts are scored too; a preference's are not, as both sides have the same
};

export type EncodedSequence = { readonly tokenIds: number[]; readonly weights: number[] };

/** What is wrong with an example, for whoever made the file. */
export class ExampleProblem extends Error {}

type Prompt = { readonly text: string; readonly tokenIds: readonly number[] };

/** Else it is the server's. */
const faultsOfText: readonly string[] = ["chat_template_refused", "untokenizable_text"];

const pauseAfterMs = 3; // of work without a turn of the event loop

export class ExampleEncoder {
  readonly #options: ExampleEncoderOptions;
  readonly #stopTexts: readonly string[];
  readonly #known = new Map<string, readonly number[]>(); // token ids of an example's parts
  #turnStartMs = performance.now();

  constructor(options: ExampleEncoderOptions) {
    this.#options = options;
    const { text, model } = options;
    this.#stopTexts = model.eosTokenIds
      .map((id) => text.tokenizer.spelling(id))
      .filter((stop) => stop !== "");
  }

  /** Of a preference two, the preferred first. Throws ExampleProblem, ChatTemplateMissingError. */
  async encode(example: TrainingExample): Promise<EncodedSequence[]> {
    this.#known.clear();
    try {
      switch (example.format) {
        case "chat":
          return await this.#chat(example);
        case "completion":
          return [await this.#completion(example)];
        case "preference":
          return await this.#preference(example);
        default:
          return example satisfies never;
      }
    } catch (error) {
      if (error instanceof RequestError && faultsOfText.includes(error.code))
        throw new ExampleProblem(error.message);
      throw error;
    }
  }

  /**
   * One sequence, as long as the template writes a conversation the same however it goes on. Where it does not (some
   * leave out former reasoning, some tokenizers join an answer's end with what follows), another begins.
   */
  async #chat({ messages }: ChatExample): Promise<EncodedSequence[]> {
    const { trainOnPrompt, maxTokens } = this.#options;
    const skipped = messages.findIndex(({ role, isLearned }) => role === "assistant" && !isLearned);
    if (trainOnPrompt && skipped >= 0)
      throw new ExampleProblem(`messages[${skipped}].weight is 0, but the job learns prompts too`);
    const sequences: EncodedSequence[] = [];
    for (const [index, { isLearned, content }] of messages.entries()) {
      if (!isLearned) continue;
      this.#refuseStops(content, `messages[${index}].content`);
      const before = messages.slice(0, index).map(withoutWeight);
      const prompt = await this.#prompt(before);
      let sequence = sequences.at(-1);
      if (sequence === undefined || !startsWith(prompt.tokenIds, sequence.tokenIds)) {
        sequence = { tokenIds: [], weights: [] };
        sequences.push(sequence);
      }
      append(sequence, prompt.tokenIds.slice(sequence.tokenIds.length), trainOnPrompt ? 1 : 0);
      if (sequence.tokenIds.length > maxTokens) break; // rendering on would cost the square of the length
      append(sequence, await this.#reply(before, content, prompt), 1);
    }
    return sequences;
  }

  async #completion({ prompt: text, completion }: CompletionExample): Promise<EncodedSequence> {
    this.#refuseStops(completion, "completion");
    const prompt = { text, tokenIds: await this.#tokenIds(text, true) };
    const sequence: EncodedSequence = { tokenIds: [], weights: [] };
    append(sequence, prompt.tokenIds, this.#options.trainOnPrompt ? 1 : 0);
    append(sequence, this.#stopped(await this.#continuation(prompt, completion, true)), 1);
    return sequence;
  }

  async #preference(example: PreferenceExample): Promise<EncodedSequence[]> {
    const { messages } = example.input;
    const prompt = await this.#prompt(messages);
    const sequences: EncodedSequence[] = [];
    for (const field of ["preferred_output", "non_preferred_output"] as const) {
      this.#refuseStops(example[field], `${field}[0].content`);
      const sequence: EncodedSequence = { tokenIds: [], weights: [] };
      append(sequence, prompt.tokenIds, 0);
      append(sequence, await this.#reply(messages, example[field], prompt), 1);
      sequences.push(sequence);
    }
    return sequences;
  }

  async #prompt(messages: readonly ChatMessage[]): Promise<Prompt> {
    const text = this.#render(messages, true);
    return { text, tokenIds: await this.#tokenIds(text, false) }; // the template writes the special tokens itself
  }

  /** What the model must draw after the prompt. */
  async #reply(before: readonly ChatMessage[], content: string, prompt: Prompt): Promise<number[]> {
    const written = (answer: string) =>
      this.#render([...before, { role: "assistant", content: answer }], false);
    const whole = written(content);
    // A prompt may end in what no past turn shows, such as the start of reasoning: then all from the content on.
    const text = whole.startsWith(prompt.text)
      ? whole.slice(prompt.text.length)
      : fromContent(whole, content.trim(), written);
    return this.#stopped(await this.#continuation(prompt, text, false));
  }

  async #continuation(prompt: Prompt, text: string, addSpecialTokens: boolean): Promise<readonly number[]> {
    const whole = await this.#tokenIds(prompt.text + text, addSpecialTokens);
    if (startsWith(whole, prompt.tokenIds)) return whole.slice(prompt.tokenIds.length);
    // One token would hold the prompt's end and the answer's beginning, but served, the prompt's tokens stand.
    if (!this.#canEncodeApart())
      throw new ExampleProblem(
        "the answer's beginning and the prompt's end are one token of this model's vocabulary; put a space between",
      );
    return await this.#tokenIds(text, false);
  }

  /** Whether a text encoded alone goes on where another ended; some tokenizers put a space before every text. */
  #canEncodeApart(): boolean {
    const { tokenizer } = this.#options.text;
    const letter = tokenizer.encode("a", { addSpecialTokens: false });
    return tokenizer.decode([...letter, ...letter], { skipSpecialTokens: false }) === "aa";
  }

  /** Up to the first token that stops an answer, or with one where the template writes none. */
  #stopped(tokenIds: readonly number[]): number[] {
    const { eosTokenIds } = this.#options.model;
    const end = tokenIds.findIndex((id) => eosTokenIds.includes(id));
    return end >= 0 ? tokenIds.slice(0, end + 1) : [...tokenIds, ...eosTokenIds.slice(0, 1)];
  }

  #refuseStops(answer: string, path: string): void {
    const stop = this.#stopTexts.find((text) => answer.includes(text));
    if (stop === undefined) return;
    throw new ExampleProblem(
      `${path} holds ${stop}, which ends an answer; leave it out, it is added by itself`,
    );
  }

  #render(messages: readonly ChatMessage[], addGenerationPrompt: boolean): string {
    return this.#options.text.renderChat(messages, { addGenerationPrompt, variables: {} });
  }

  /** Special tokens belong to a whole text. Of others the parts that were there before are not encoded again. */
  async #tokenIds(text: string, addSpecialTokens: boolean): Promise<readonly number[]> {
    if (addSpecialTokens) return await this.#encoded(text, true);
    const tokenIds: number[] = [];
    for (const [index, part] of this.#options.text.tokenizer.partsOf(text).entries()) {
      const own = this.#known.get(part) ?? (await this.#encoded(part, false));
      this.#known.set(part, own);
      for (let at = Math.min(index, 1); at < own.length; at++) tokenIds.push(own[at]!);
    }
    return tokenIds;
  }

  async #encoded(text: string, addSpecialTokens: boolean): Promise<readonly number[]> {
    if (performance.now() - this.#turnStartMs > pauseAfterMs) {
      await setImmediate();
      this.#turnStartMs = performance.now();
    }
    const { text: texts, model } = this.#options;
    const tokenIds = await texts.encode(text, { addSpecialTokens });
    const outside = tokenIds.find((id) => id >= model.vocabSize);
    if (outside !== undefined)
      throw new ExampleProblem(`has the token id ${outside}, beyond the model's ${model.vocabSize} tokens`);
    return tokenIds;
  }
}

/** The end of a text from an answer's content on, which begins where the text with another answer is another. */
function fromContent(whole: string, content: string, written: (answer: string) => string): string {
  const other = written(content.startsWith("a") ? "b" : "a");
  let start = 0;
  while (start < whole.length && whole[start] === other[start]) start++;
  const text = whole.slice(start).trimStart();
  if (text.startsWith(content)) return text;
  throw new ExampleProblem("the chat template does not write an answer's content as it is");
}

function withoutWeight({ role, content, name }: ChatExample["messages"][number]): ChatMessage {
  return { role, content, ...(name !== undefined && { name }) };
}

/** What is first in a sequence is drawn from nothing, so it is never scored. */
function append({ tokenIds, weights }: EncodedSequence, added: readonly number[], weight: number): void {
  for (const id of added) {
    weights.push(tokenIds.length === 0 ? 0 : weight);
    tokenIds.push(id);
  }
}

function startsWith(whole: readonly number[], start: readonly number[]): boolean {
  return start.length <= whole.length && start.every((id, index) => whole[index] === id);
}
