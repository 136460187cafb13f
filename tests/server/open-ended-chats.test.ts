// Chats that do not say how long their answers may get, against token limits: they are not refused for what they will
// hardly use, and use no more than there is.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { ChatAnswer } from "../../server/endpoints/chat-completions-contract.ts";
import { type Script, scriptedApp, writes } from "./scripted-app.ts";
import { twoTenants } from "./two-tenants.ts";

const path = "/v1/chat/completions";
const chat = { model: "tiny", messages: [{ role: "user", content: "x" }] };

test("more chats run side by side than there would be whole contexts", async (context) => {
  const { keyring, keys } = await twoTenants(context, { tokensPerMinute: 3000 }); // the context has 1024
  const slow = (play: Script): Script =>
    async function* (request, signal) {
      await delay(50);
      yield* play(request, signal);
    };
  const { post } = await scriptedApp((text) => slow(writes(text, "one two")), { keyring });
  const headers = { authorization: `Bearer ${keys.acme.inference}`, "content-type": "application/json" };
  const answers = await Promise.all(Array.from({ length: 8 }, () => post(path, chat, { headers })));
  assert.deepEqual(
    answers.map(({ status }) => status),
    Array(8).fill(200),
  );
});

test("under a limit below the context an answer ends with length, its usage within the limit", async (context) => {
  const endless: Script = async function* (_, signal) {
    for (;;) {
      signal.throwIfAborted();
      yield { type: "token", tokenId: 100, logprob: null };
      await delay(0);
    }
  };
  const { keyring, keys } = await twoTenants(context, { tokensPerDay: 100 });
  const { post } = await scriptedApp(() => endless, { keyring });
  const headers = { authorization: `Bearer ${keys.acme.inference}`, "content-type": "application/json" };
  const response = await post(path, chat, { headers });
  assert.equal(response.status, 200);
  const { choices, usage } = (await response.json()) as ChatAnswer;
  assert.equal(choices[0]!.finish_reason, "length");
  assert.equal(usage.total_tokens, 100);
  assert.equal((await post(path, chat, { headers })).status, 429);
});
