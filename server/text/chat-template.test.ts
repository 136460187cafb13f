import assert from "node:assert/strict";
import { test } from "node:test";
import { ChatTemplate, chatTemplateSource } from "./chat-template.ts";

const messages = [{ role: "user", content: "hi" }];
const options = { addGenerationPrompt: true, variables: {} };

test("a template sees messages, special tokens, variables and the prompt flag", () => {
  const source =
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}>{% endif %}{{ mood }}";
  const template = new ChatTemplate(source, { bos_token: { content: "<s>" } });
  assert.equal(template.render(messages, options), "<s>[user]hi>");
  assert.equal(
    template.render(messages, { addGenerationPrompt: false, variables: { mood: "!" } }),
    "<s>[user]hi!",
  );
});

test("what the template refuses is the client's error, in the template's words", () => {
  const template = new ChatTemplate("{{ raise_exception('roles must alternate') }}", {});
  assert.throws(() => template.render(messages, options), {
    code: "chat_template_refused",
    message: /roles must alternate/,
  });
});

test("a template that does not parse is the checkpoint's error", () => {
  assert.throws(() => new ChatTemplate("{% if %}", {}), { code: "invalid_chat_template" });
});

test("of several named templates the default one counts", () => {
  assert.equal(chatTemplateSource({ chat_template: "a" }), "a");
  assert.equal(
    chatTemplateSource({
      chat_template: [
        { name: "tool_use", template: "b" },
        { name: "default", template: "c" },
      ],
    }),
    "c",
  );
  assert.equal(chatTemplateSource({}), null);
});
