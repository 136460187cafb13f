// The four forms of a completion's prompt (a string, strings, token ids, lists of token ids) as one.

import { setImmediate as nextTurn } from "node:timers/promises";
import { z } from "@hono/zod-openapi";
import { isTokenId } from "../generation/bounded.ts";
import type { Sender, TextModel } from "../text/text-model.ts";

export type Prompt = { readonly text: string } | { readonly tokenIds: readonly number[] };
export type Prompts = { readonly prompts: readonly Prompt[]; readonly isList: boolean };

const unpaired = "holds an unpaired surrogate, which is no text";
const forms = "a string, a list of strings, a list of token ids, or a list of lists of token ids";
const maximumPrompts = 2048;

/** Checked by hand: a union of four array types would report every element of a wrong one four times. */
export const promptSchema = z
  .unknown()
  .transform((value, context): Prompts => {
    const problem = (message: string, path: (string | number)[] = []) => {
      context.addIssue({ code: "custom", message, path });
      return z.NEVER;
    };
    if (typeof value === "string") return value.isWellFormed() ? one({ text: value }) : problem(unpaired);
    if (!Array.isArray(value)) return problem(`expected ${forms}`);
    if (value.length === 0) return problem("is an empty list; send at least one prompt");
    if (typeof value[0] === "number") {
      const wrong = value.findIndex((id) => !isTokenId(id));
      return wrong < 0 ? one({ tokenIds: value }) : problem("is not a token id", [wrong]);
    }
    if (value.length > maximumPrompts) return problem(`has more than ${maximumPrompts} prompts`);
    const prompts: Prompt[] = [];
    for (const [index, item] of value.entries()) {
      if (typeof item === "string") {
        if (!item.isWellFormed()) return problem(unpaired, [index]);
        prompts.push({ text: item });
      } else if (Array.isArray(item) && item.length > 0) {
        const wrong = item.findIndex((id) => !isTokenId(id));
        if (wrong >= 0) return problem("is not a token id", [index, wrong]);
        prompts.push({ tokenIds: item });
      } else return problem("expected a string or a list of at least one token id", [index]);
    }
    return { prompts, isList: true };
  })
  .openapi({ type: ["string", "array"], description: forms });

function one(prompt: Prompt): Prompts {
  return { prompts: [prompt], isList: false };
}

/** Throws as TextModel.encode does. */
export async function promptTokenIds(
  prompt: Prompt,
  text: TextModel,
  sender?: Sender,
): Promise<readonly number[]> {
  return "tokenIds" in prompt
    ? prompt.tokenIds
    : text.encode(prompt.text, { addSpecialTokens: true, sender });
}

/** A prompt's text as its answers repeat it. Token ids are decoded once for all of them. */
export class PromptEcho {
  readonly #prompt: Prompt;
  readonly #model: TextModel;
  #text: string | null;

  constructor(prompt: Prompt, model: TextModel) {
    this.#prompt = prompt;
    this.#model = model;
    this.#text = "text" in prompt ? prompt.text : null;
  }

  /** To be awaited before `text`. Long prompts take milliseconds: others have their turns between two of them. */
  async prepare(): Promise<void> {
    if (this.#text !== null || "text" in this.#prompt) return;
    await nextTurn();
    this.#text ??= this.#model.tokenizer.decode(this.#prompt.tokenIds, { skipSpecialTokens: true });
  }

  get text(): string {
    if (this.#text === null) throw new Error("the prompt's text is not prepared");
    return this.#text;
  }
}
