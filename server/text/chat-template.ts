// Messages to prompt text, by the checkpoint's own Jinja template. The only file that imports @huggingface/jinja.
// Knows no tokenizer.

import { Template } from "@huggingface/jinja";
import { CheckpointError } from "../../kernels/errors.ts";
import { ChatTemplateError } from "../errors.ts";

export type ChatMessage = { readonly role: string; readonly content: string; readonly name?: string };

export type RenderOptions = {
  readonly addGenerationPrompt: boolean;
  readonly variables: Readonly<Record<string, unknown>>; // vLLM's chat_template_kwargs
};

/** Names that a request's own variables may not take over. */
export const reservedTemplateVariables = ["messages", "add_generation_prompt", "raise_exception", "range"];

const specialTokenNames = ["bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token"];

export class ChatTemplate {
  readonly #template: Template;
  readonly #specialTokens: Readonly<Record<string, string>>;

  /** Throws CheckpointError `invalid_chat_template`. */
  constructor(source: string, tokenizerConfig: Readonly<Record<string, unknown>>) {
    try {
      this.#template = new Template(source);
    } catch (error) {
      throw new CheckpointError(
        "invalid_chat_template",
        `the chat template does not parse: ${messageOf(error)}`,
        {
          cause: error,
        },
      );
    }
    this.#specialTokens = specialTokens(tokenizerConfig);
  }

  /** Throws ChatTemplateError with the template's own words where it calls `raise_exception`. */
  render(messages: readonly ChatMessage[], options: RenderOptions): string {
    try {
      return this.#template.render({
        ...options.variables,
        ...this.#specialTokens,
        messages,
        tools: null,
        add_generation_prompt: options.addGenerationPrompt,
      });
    } catch (error) {
      throw new ChatTemplateError(messageOf(error));
    }
  }
}

/** The template's source in a tokenizer_config.json: a string, or a list of named ones of which `default` counts. */
export function chatTemplateSource(tokenizerConfig: Readonly<Record<string, unknown>>): string | null {
  const given = tokenizerConfig.chat_template;
  if (typeof given === "string") return given;
  if (!Array.isArray(given)) return null;
  const named = given as readonly { readonly name?: unknown; readonly template?: unknown }[];
  const chosen = named.find(({ name }) => name === "default") ?? named[0];
  return typeof chosen?.template === "string" ? chosen.template : null;
}

function specialTokens(config: Readonly<Record<string, unknown>>): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const name of specialTokenNames) {
    const token = config[name];
    if (typeof token === "string") tokens[name] = token;
    else if (typeof token === "object" && token !== null && "content" in token)
      tokens[name] = String(token.content);
  }
  return tokens;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
