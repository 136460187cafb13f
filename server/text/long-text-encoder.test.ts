// The tokenizer's own thread: whose text comes next, who leaves, and that it says what the main thread would.

import assert from "node:assert/strict";
import { after, mock, test } from "node:test";
import { fileURLToPath } from "node:url";
import { loadTextParts } from "./load-text.ts";
import { LongTextEncoder } from "./long-text-encoder.ts";
import { TextModel } from "./text-model.ts";

const directory = fileURLToPath(new URL("../../models/tiny", import.meta.url));
const parts = await loadTextParts(directory);
const encoder = new LongTextEncoder(directory);
after(() => encoder.close());

const never = new AbortController().signal;
const from = (tenantId: string, signal = never) => ({ tenantId, signal, maxTokens: 8192 });
const plain = { addSpecialTokens: false };
const long = "some words ".repeat(500);

test("tenants take turns, and a text whose sender left is not encoded", async () => {
  const order: string[] = [];
  const leaving = new AbortController();
  const encode = async (name: string, signal = never) => {
    await encoder.encode(long, { ...plain, sender: from(name[0]!, signal) });
    order.push(name);
  };
  const asked = [encode("a1"), encode("a2"), encode("a3", leaving.signal), encode("a4"), encode("b1")];
  leaving.abort(new Error("left"));
  const ends = await Promise.allSettled(asked);
  assert.deepEqual(order, ["a1", "b1", "a2", "a4"]);
  assert.equal((ends[2] as PromiseRejectedResult).reason.message, "left");
});

test("texts and conversations come to the same tokens in either thread", async () => {
  const there = new TextModel(parts, encoder);
  const here = new TextModel(parts);
  const options = { ...plain, sender: from("a") };
  const messages = Array.from({ length: 101 }, (_, index) => {
    return { role: index % 2 === 0 ? "user" : "assistant", content: `message ${index}` };
  });
  const chat = { messages, addGenerationPrompt: true, variables: {} };
  assert.deepEqual(await there.encode(long, options), await here.encode(long, options));
  assert.deepEqual(await there.encodeChat(chat, options), await here.encodeChat(chat, options));
});

test("many token ids come to the same text in either thread, in turn", async () => {
  const there = new TextModel(parts, encoder);
  const tokenIds = parts.tokenizer!.encode("\u{1f600} <|end|> words, ".repeat(2000), plain);
  const decode = mock.method(parts.tokenizer!, "decode");
  const order: string[] = [];
  const asked = [
    encoder.encode(long, { ...plain, sender: from("a") }).then(() => order.push("a1")),
    encoder.encode(long, { ...plain, sender: from("a") }).then(() => order.push("a2")),
    there.decode(tokenIds, from("b")).then((text) => order.push(text)),
  ];
  await Promise.all(asked);
  assert.equal(decode.mock.callCount(), 0);
  assert.deepEqual(order, ["a1", await new TextModel(parts).decode(tokenIds, from("b")), "a2"]);
  await assert.rejects(there.decode(tokenIds, from("b", AbortSignal.abort(new Error("left")))), /left/);
});

test("what is wrong with a text has its own code in either thread", async () => {
  const there = new TextModel(parts, encoder);
  const tooLong = { messages: [{ role: "user", content: long }], addGenerationPrompt: true, variables: {} };
  for (const text of [there, new TextModel(parts)]) {
    await assert.rejects(text.encodeChat(tooLong, { ...plain, sender: { ...from("a"), maxTokens: 100 } }), {
      code: "context_length_exceeded",
      param: "prompt",
    });
  }
});
