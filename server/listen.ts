// Binds an application to a port, keeps one client from holding more than its share of a connection, and ends
// without cutting answers short. The only file that imports @hono/node-server.

import type { Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { createAdaptorServer } from "@hono/node-server";
import type { App } from "./app.ts";

export type Listener = {
  readonly url: string;
  /**
   * Waits for the answers under way, at most so long; true when all ended. Goes on listening: what arrives meanwhile
   * is answered by the application, and its connection closed.
   */
  drain(graceMs: number): Promise<boolean>;
  /** Takes no more connections, waits a moment for last words, and cuts what is left. */
  close(): Promise<void>;
};

export type ConnectionLimits = {
  readonly maxConnections: number; // more are closed as they come
  readonly headersMs: number; // from the first byte of a request
  readonly requestMs: number; // the same, to the last byte of its body: an upload may be large
  readonly stalledMs: number; // in which a client must take something of an answer that waits for it
  readonly keepAliveMs: number; // longer than proxies keep their side, who would else send into a closing one
};

export const defaultConnectionLimits: ConnectionLimits = {
  maxConnections: 2048,
  headersMs: 20_000,
  requestMs: 600_000,
  stalledMs: 60_000,
  keepAliveMs: 75_000,
};

export type ListenOptions = {
  readonly host: string;
  readonly port: number;
  readonly limits?: Partial<ConnectionLimits>;
};

const maxHeaderBytes = 16 * 1024;
const pollMs = 20;
const lastWordsMs = 1000;

/** Rejects with Node's error (EADDRINUSE, EACCES, ...) where the address cannot be had. */
export async function listen(app: App, options: ListenOptions): Promise<Listener> {
  const limits = { ...defaultConnectionLimits, ...options.limits };
  const server = createServer(app, limits);
  const answers = new Set<ServerResponse>();
  let isDraining = false;
  server.prependListener("request", (_, answer) => {
    answers.add(answer);
    answer.once("close", () => answers.delete(answer));
    if (isDraining) answer.shouldKeepAlive = false;
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port, options.host, () => {
      server.off("error", reject);
      resolve();
    });
  });
  let closed: Promise<void> | null = null;
  const drain = async (graceMs: number) => {
    isDraining = true;
    const underWay = [...answers];
    for (const answer of underWay) if (!answer.headersSent) answer.shouldKeepAlive = false;
    const deadlineMs = performance.now() + graceMs;
    const isOver = () => underWay.every((answer) => !answers.has(answer));
    while (!isOver() && performance.now() < deadlineMs) await delay(pollMs);
    return isOver();
  };
  return {
    url: urlOf(server, options.host),
    drain,
    close() {
      closed ??= new Promise((resolve) => {
        server.close(() => resolve());
        void drain(lastWordsMs).then(() => server.closeAllConnections());
      });
      return closed;
    },
  };
}

function createServer(app: App, limits: ConnectionLimits): Server {
  const server = createAdaptorServer({
    fetch: app.fetch,
    serverOptions: {
      maxHeaderSize: maxHeaderBytes,
      headersTimeout: limits.headersMs,
      requestTimeout: limits.requestMs,
      keepAliveTimeout: limits.keepAliveMs,
      connectionsCheckingInterval: Math.min(5000, limits.headersMs),
      keepAlive: true, // finds out about clients that vanished without a word
    },
  }) as Server;
  server.maxConnections = limits.maxConnections;
  // A stream may be silent for as long as it waits for its turn; a client that does not read what is there may not.
  server.setTimeout(limits.stalledMs, (socket: Socket) => {
    if (socket.writableLength > 0) socket.destroy();
  });
  return server;
}

function urlOf(server: Server, host: string): string {
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the server has no port");
  return `http://${host.includes(":") ? `[${host}]` : host}:${address.port}`;
}
