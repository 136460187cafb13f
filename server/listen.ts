// Binds an application to a port and unbinds it without cutting answers short. The only file that imports
// @hono/node-server.

import type { Server } from "node:http";
import { setTimeout as delay } from "node:timers/promises";
import { createAdaptorServer } from "@hono/node-server";
import type { App } from "./app.ts";

export type Listener = {
  readonly url: string;
  /** Takes no new connections and waits for the answers under way, at most so long; true when all ended. */
  drain(graceMs: number): Promise<boolean>;
  /** Cuts what is left. */
  close(): Promise<void>;
};

const idlePollMs = 20;

/** Rejects with Node's error (EADDRINUSE, EACCES, ...) where the address cannot be had. */
export async function listen(
  app: App,
  address: { readonly host: string; readonly port: number },
): Promise<Listener> {
  const server = createAdaptorServer({ fetch: app.fetch }) as Server;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(address.port, address.host, () => {
      server.off("error", reject);
      resolve();
    });
  });
  let closed: Promise<void> | null = null;
  const stopListening = () => {
    closed ??= new Promise((resolve) => server.close(() => resolve()));
    return closed;
  };
  return {
    url: urlOf(server, address.host),
    async drain(graceMs) {
      let isDrained = false;
      void stopListening().then(() => {
        isDrained = true;
      });
      const deadlineMs = performance.now() + graceMs;
      while (!isDrained && performance.now() < deadlineMs) {
        server.closeIdleConnections(); // kept alive by clients, and idle only once their answer is over
        await delay(idlePollMs);
      }
      return isDrained;
    },
    async close() {
      server.closeAllConnections();
      await stopListening();
    },
  };
}

function urlOf(server: Server, host: string): string {
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the server has no port");
  return `http://${host.includes(":") ? `[${host}]` : host}:${address.port}`;
}
