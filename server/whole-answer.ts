// An answer that is sent once it is whole. A long one is written as fast as the client takes it: its JSON at once could
// be more than a string may hold, and would hold up everybody's tokens. Knows no endpoint.

import { setImmediate as nextTurn } from "node:timers/promises";
import { jsonParts } from "./json-parts.ts";
import type { RequestRecord } from "./request-record.ts";

export type WholeAnswerOptions = {
  readonly record: RequestRecord;
  readonly memory: Disposable; // that the answer takes, until it was sent
};

const pieceLength = 64 * 1024; // characters
const headers = { "content-type": "application/json" };
const encoder = new TextEncoder();

/** Throws what `make` does. */
export async function wholeAnswer(
  make: () => Promise<object>,
  { record, memory }: WholeAnswerOptions,
): Promise<Response> {
  using made = new DisposableStack();
  made.use(memory);
  const pieces = piecesOf(await make());
  const [first, second] = [pieces.next(), pieces.next()];
  if (first.done || second.done) return new Response(first.value ?? "", { headers });
  const sent = made.move();
  const over = Promise.withResolvers<void>();
  record.streamed = over.promise;
  const end = () => {
    sent.dispose();
    over.resolve();
  };
  const ahead = [first.value, second.value];
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      await nextTurn();
      const text = ahead.shift() ?? pieces.next().value;
      if (text !== undefined) return controller.enqueue(encoder.encode(text));
      end();
      controller.close();
    },
    cancel() {
      record.failure ??= "client_disconnected";
      end();
    },
  });
  return new Response(body, { headers });
}

function* piecesOf(answer: object): Generator<string, undefined> {
  let piece = "";
  for (const part of jsonParts(answer)) {
    piece += part;
    if (piece.length < pieceLength) continue;
    yield piece;
    piece = "";
  }
  if (piece !== "") yield piece;
}
