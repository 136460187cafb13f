// Messages of a chat request to prompt token ids, through the model's chat template.

import type { ChatMessage } from "../text/chat-template.ts";
import type { TextModel } from "../text/text-model.ts";
import type { Conversation } from "./chat-completions-contract.ts";

export function conversationText(conversation: Conversation, text: TextModel): string {
  return text.renderChat(conversation.messages.map(chatMessage), {
    addGenerationPrompt: conversation.add_generation_prompt ?? true,
    variables: conversation.chat_template_kwargs ?? {},
  });
}

export function conversationTokenIds(
  conversation: Conversation,
  text: TextModel,
): Promise<readonly number[]> {
  // The template writes the special tokens itself.
  return text.encode(conversationText(conversation, text), { addSpecialTokens: false });
}

/** Text parts are joined by line breaks, as vLLM does for templates that expect a string. */
function chatMessage({ role, content, name }: Conversation["messages"][number]): ChatMessage {
  const joined = typeof content === "string" ? content : content.map(({ text }) => text).join("\n");
  return name === undefined || name === null ? { role, content: joined } : { role, content: joined, name };
}
