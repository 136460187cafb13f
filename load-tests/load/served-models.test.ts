import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { HttpClient } from "./http-client.ts";
import { calibrate } from "./served-models.ts";

test("a word has as many tokens over either route, and what a chat template adds is not the words'", async (t) => {
  const templateTokens = 11;
  const server = createServer(async (request, response) => {
    const { prompt, messages } = JSON.parse(await text(request));
    const words = (prompt ?? messages[0].content).split(" ").length;
    const isChat = request.url === "/v1/chat/completions";
    const promptTokens = 1.5 * words + (isChat ? templateTokens : 0);
    response.end(JSON.stringify({ usage: { prompt_tokens: promptTokens } }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  await using client = new HttpClient(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  for (const endpoint of ["completions", "chat"] as const) {
    assert.equal(await calibrate(client, { base: "m" }, { key: null, endpoint }), 1.5, endpoint);
  }
});
