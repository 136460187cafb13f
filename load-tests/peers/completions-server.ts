// As much of OpenAI's completions route as the load generator needs, for peers that are libraries. Knows no peer.

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";

export type Ask = { readonly model: string; readonly prompt: string; readonly max_tokens: number };

export type Usage = { readonly prompt_tokens: number; readonly completion_tokens: number };

/** Greedy, past every end of text; `write` takes each token's text as soon as it is there. */
export type Complete = (ask: Ask, write: (text: string) => void) => Promise<Usage>;

/** /health answers once this is called. */
export function serveCompletions(port: number, complete: Complete): void {
  createServer((request, response) => {
    if (request.url === "/health") response.end("ok");
    else
      answer(request, response, complete).catch((error: unknown) => {
        console.error(error);
        if (!response.headersSent) response.writeHead(500);
        response.end(JSON.stringify({ error: { message: String(error) } }));
      });
  }).listen(port, "127.0.0.1");
}

async function answer(request: IncomingMessage, response: ServerResponse, complete: Complete): Promise<void> {
  const { stream, ...ask } = await bodyOf(request);
  if (!stream) {
    let text = "";
    const usage = await complete(ask, (piece) => {
      text += piece;
    });
    return void response.end(JSON.stringify({ choices: [{ text }], usage }));
  }
  response.writeHead(200, { "content-type": "text/event-stream" });
  const write = (event: object) => response.write(`data: ${JSON.stringify(event)}\n\n`);
  const usage = await complete(ask, (text) => write({ choices: [{ text }] }));
  write({ choices: [], usage });
  response.end("data: [DONE]\n\n");
}

async function bodyOf(request: IncomingMessage): Promise<Ask & { readonly stream?: boolean }> {
  const parts: Uint8Array[] = [];
  for await (const part of request) parts.push(part);
  return JSON.parse(Buffer.concat(parts).toString("utf8"));
}
