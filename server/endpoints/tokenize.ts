// POST /tokenize and /detokenize, in vLLM's shapes: what a prompt or a conversation is in token ids, and back.

import { z } from "@hono/zod-openapi";
import type { ServerContext } from "../context.ts";
import { InvalidFieldError } from "../errors.ts";
import { tokenIdList } from "../generation/bounded.ts";
import { wellFormedText } from "../generation/sampling-fields.ts";
import { resolveModel } from "../model-name.ts";
import type { TenantAdapters } from "../served-adapters.ts";
import { conversationFields } from "./chat-completions-contract.ts";
import { conversationLength, conversationTokenIds } from "./conversation.ts";
import { jsonEndpoint, jsonResponse } from "./endpoint.ts";

/** Of one request, so that neither it nor its answer takes the HTTP thread long; a longer context may be filled. */
const maximumTokens = 131_072;

const modelField = {
  model: wellFormedText.nullish().openapi({ description: "Checked to exist; all share one tokenizer." }),
};

const tokenizeRequest = z
  .strictObject({
    ...modelField,
    ...conversationFields,
    prompt: wellFormedText.optional(),
    messages: conversationFields.messages.optional(),
    add_special_tokens: z
      .boolean()
      .nullish()
      .openapi({ description: "Default: true for a prompt, false for messages." }),
    return_token_strs: z.boolean().nullish(),
  })
  .refine(({ prompt, messages }) => (prompt === undefined) !== (messages === undefined), {
    path: ["prompt"],
    message: "send either prompt or messages",
  })
  .openapi("TokenizeRequest");

const tokenizeAnswer = z
  .object({
    count: z.int(),
    max_model_len: z.int(),
    tokens: z.array(z.int()),
    token_strs: z.array(z.string()).nullable(),
  })
  .openapi("TokenizeAnswer");

export const tokenize = jsonEndpoint({
  method: "post",
  path: "/tokenize",
  access: "inference",
  listener: "main",
  summary: "Token ids of a prompt or a conversation",
  jsonBody: tokenizeRequest,
  responses: { 200: jsonResponse("The token ids.", tokenizeAnswer) },
  async handle({ body, signal, tenant }, context) {
    checkModel(body.model, context.readiness.serving.adaptersOf(tenant), context);
    const { text, engine } = context.readiness.serving;
    const { maxContext } = engine.model;
    const { messages, prompt = "", add_special_tokens } = body;
    const maximum = Math.max(maximumTokens, maxContext); // also of what is too long: by how much is a fair question
    const refuseMore = (count: number) => {
      if (count <= maximum) return;
      const param = messages ? "messages" : "prompt";
      throw new InvalidFieldError(param, `has more than ${maximum} tokens; send it in parts`);
    };
    refuseMore(text.tokenizer.leastTokens(messages ? conversationLength({ messages }) : prompt.length));
    const sender = { tenantId: tenant.id, signal };
    const options = { addSpecialTokens: add_special_tokens ?? messages === undefined, sender };
    const tokens = messages
      ? await conversationTokenIds({ ...body, messages }, text, options)
      : await text.encode(prompt, options);
    refuseMore(tokens.length);
    return Response.json({
      count: tokens.length,
      max_model_len: maxContext,
      tokens,
      token_strs: body.return_token_strs ? tokens.map((id) => text.tokenizer.spelling(id)) : null,
    });
  },
});

const detokenizeRequest = z
  .strictObject({ ...modelField, tokens: tokenIdList(maximumTokens) })
  .openapi("DetokenizeRequest");

export const detokenize = jsonEndpoint({
  method: "post",
  path: "/detokenize",
  access: "inference",
  listener: "main",
  summary: "Text of token ids",
  jsonBody: detokenizeRequest,
  responses: { 200: jsonResponse("The text.", z.object({ prompt: z.string() }).openapi("DetokenizeAnswer")) },
  async handle({ body, signal, tenant }, context) {
    checkModel(body.model, context.readiness.serving.adaptersOf(tenant), context);
    const { text, engine } = context.readiness.serving;
    const { vocabSize } = engine.model;
    const outside = body.tokens.findIndex((id) => id >= vocabSize);
    if (outside >= 0)
      throw new InvalidFieldError(`tokens[${outside}]`, `is outside the vocabulary of ${vocabSize} tokens`);
    return Response.json({ prompt: await text.decode(body.tokens, { tenantId: tenant.id, signal }) });
  },
});

function checkModel(
  model: string | null | undefined,
  adapters: TenantAdapters,
  { baseName }: ServerContext,
): void {
  if (model === null || model === undefined) return;
  resolveModel({ model, adapterId: null }, { baseName, adapter: (id) => adapters.get(id) });
}
