// The four forms of a completion's prompt (a string, strings, token ids, lists of token ids) as one.

import { z } from "@hono/zod-openapi";
import { isTokenId } from "../generation/bounded.ts";
import type { TextModel } from "../text/text-model.ts";

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

/** Throws TokenizerMissingError for text where the model has no tokenizer. */
export async function promptTokenIds(prompt: Prompt, text: TextModel): Promise<readonly number[]> {
  return "tokenIds" in prompt ? prompt.tokenIds : text.encode(prompt.text, { addSpecialTokens: true });
}

export function promptText(prompt: Prompt, text: TextModel): string {
  return "text" in prompt ? prompt.text : text.tokenizer.decode(prompt.tokenIds, { skipSpecialTokens: true });
}
