// Messages of a chat request to prompt token ids, through the model's chat template.

import type { ChatMessage } from "../text/chat-template.ts";
import type { EncodeOptions, TextModel } from "../text/text-model.ts";
import type { Conversation } from "./chat-completions-contract.ts";

export function conversationTokenIds(
  conversation: Conversation,
  text: TextModel,
  options: Partial<EncodeOptions> = {},
): Promise<readonly number[]> {
  const chat = {
    messages: conversation.messages.map(chatMessage),
    addGenerationPrompt: conversation.add_generation_prompt ?? true,
    variables: conversation.chat_template_kwargs ?? {},
  };
  return text.encodeChat(chat, { addSpecialTokens: false, ...options }); // the template writes them itself
}

/** In characters, without what the template adds. */
export function conversationLength({ messages }: Pick<Conversation, "messages">): number {
  return messages.reduce((sum, message) => sum + chatMessage(message).content.length, 0);
}

/** Text parts are joined by line breaks, as vLLM does for templates that expect a string. */
function chatMessage({ role, content, name }: Conversation["messages"][number]): ChatMessage {
  const joined = typeof content === "string" ? content : content.map(({ text }) => text).join("\n");
  return name === undefined || name === null ? { role, content: joined } : { role, content: joined, name };
}
