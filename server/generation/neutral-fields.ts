// Request fields of OpenAI's and vLLM's API that change nothing here: those that are labels for the operator, and
// those that are accepted only at the value that asks for nothing. Anything else is refused, never dropped:
// OpenAI too answers 400 to a field that it does not know.

import { z } from "@hono/zod-openapi";

const unknown = z.unknown().optional();

/** Nothing is kept of a value that changes nothing: it may be megabytes. */
const dropped = () => undefined;
const label = unknown.transform(dropped).optional();

/** Accepts what asks for nothing; any other value is refused with the remedy. */
function neutral(remedy: string, isNeutral: (value: unknown) => boolean) {
  return unknown
    .superRefine((value, context) => {
      if (value === undefined || value === null || isNeutral(value)) return;
      context.addIssue({ code: "custom", message: remedy, params: { unsupported: true } });
    })
    .transform(dropped)
    .optional();
}

/** Accepts the given values, and an empty list. */
function only(remedy: string, ...accepted: readonly (string | number | boolean)[]) {
  return neutral(
    remedy,
    (value) => accepted.some((other) => other === value) || (Array.isArray(value) && value.length === 0),
  );
}

const leaveItOut = "leave it out";
const noTools = "tool calls are not supported here; leave it out and describe the tools in a message";
const noSteering = "constrained decoding is not supported here; leave it out and check the text";

const labels = {
  user: label,
  metadata: label,
  safety_identifier: label,
  prompt_cache_key: label,
  prompt_cache_retention: label,
  store: only("completions are not stored; leave it out", false),
  service_tier: only("there is one tier; leave it out", "auto", "default"),
  request_id: only("send it as the x-request-id header"),
};

const vllm = {
  use_beam_search: only("use n with a temperature", false),
  length_penalty: only("it belongs to beam search", 1),
  best_of: only("ask for n and choose among them", 1),
  spaces_between_special_tokens: only("special tokens are written as the tokenizer decodes them", true),
  truncate_prompt_tokens: only("shorten the prompt"),
  prompt_logprobs: only("use echo with logprobs on /v1/completions"),
  allowed_token_ids: only("use logit_bias"),
  bad_words: only("use logit_bias"),
  logits_processors: only(leaveItOut),
  structured_outputs: only(noSteering),
  guided_json: only(noSteering),
  guided_regex: only(noSteering),
  guided_choice: only(noSteering),
  guided_grammar: only(noSteering),
  mm_processor_kwargs: only(leaveItOut),
};

const responseFormat = neutral(
  noSteering,
  (value) => typeof value === "object" && value !== null && "type" in value && value.type === "text",
);

export const neutralFields = { ...labels, ...vllm, response_format: responseFormat };

export const neutralCompletionFields = { suffix: only("text is only generated after the prompt", "") };

export const neutralChatFields = {
  tools: only(noTools),
  tool_choice: only(noTools, "none", "auto"),
  parallel_tool_calls: only(noTools, true, false),
  functions: only(noTools),
  function_call: only(noTools, "none", "auto"),
  modalities: neutral(
    "the model writes text only",
    (value) => Array.isArray(value) && value.every((modality) => modality === "text"),
  ),
  audio: only("the model writes text only"),
  prediction: only(leaveItOut),
  reasoning_effort: only("use chat_template_kwargs where the model's template has a switch"),
  verbosity: only("say in a message how long the answer should be"),
  web_search_options: only(leaveItOut),
  documents: only("put them into a message"),
  chat_template: only("the model's own template is used; use /v1/completions for another"),
  continue_final_message: only("use /v1/completions", false),
  add_special_tokens: only("the chat template writes the special tokens", false),
  echo: only("use /v1/completions", false),
};

/** Fields of a message in a conversation that clients copy from answers. */
export const neutralMessageFields = {
  refusal: only(leaveItOut),
  annotations: only(leaveItOut),
  audio: only("the model reads text only"),
  tool_calls: only(noTools),
  function_call: only(noTools),
  reasoning: only("put it into content"),
  reasoning_content: only("put it into content"),
};
