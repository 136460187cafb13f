// Server-sent events as OpenAI sends them: one `data:` line per object, `[DONE]` at the end, and a failure on the
// way as `data: {"error":…}`. Knows no endpoint.

import { toHttpFailure } from "./http-error.ts";
import type { Logger } from "./logger.ts";
import type { RequestRecord } from "./request-record.ts";

export type EventStreamOptions = {
  readonly events: AsyncGenerator<object>;
  readonly signal: AbortSignal; // what stops the events' source
  readonly abort: () => void; // aborts that signal
  readonly record: RequestRecord;
  readonly logger: Logger;
};

/**
 * Waits for the first event before it answers, so that a refusal still gets its own status. Reads events only as
 * fast as the client takes them; a client that leaves aborts them.
 */
export async function eventStream(options: EventStreamOptions): Promise<Response> {
  const { events, abort, record } = options;
  const first = await events.next();
  const over = Promise.withResolvers<void>();
  record.streamed = over.promise;
  const lines = encode(first, options);
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const next = await lines.next();
      if (!next.done) return controller.enqueue(next.value);
      over.resolve();
      controller.close();
    },
    async cancel() {
      record.failure ??= "client_disconnected";
      abort();
      over.resolve();
      await lines.return(undefined);
    },
  });
  return new Response(body, {
    headers: {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache",
      "x-accel-buffering": "no", // nginx would collect the events
    },
  });
}

const encoder = new TextEncoder();

async function* encode(
  first: IteratorResult<object, unknown>,
  { events, signal, record, logger }: EventStreamOptions,
): AsyncGenerator<Uint8Array> {
  try {
    for (let next = first; !next.done; next = await events.next()) yield line(JSON.stringify(next.value));
  } catch (error) {
    if (signal.aborted) {
      record.failure ??= "client_disconnected";
      return;
    }
    const { status, body } = toHttpFailure(error);
    record.failure ??= body.error.code;
    if (status >= 500) logger.error({ err: error, requestId: record.id }, "stream failed");
    yield line(JSON.stringify(body));
  } finally {
    await events.return(undefined);
  }
  yield line("[DONE]");
}

function line(data: string): Uint8Array {
  return encoder.encode(`data: ${data}\n\n`);
}
