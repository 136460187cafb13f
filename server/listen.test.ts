// The limits of one connection, over real sockets and an application that does nothing else.

import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { OpenAPIHono } from "@hono/zod-openapi";
import { until } from "../tests/until.ts";
import type { App } from "./app.ts";
import { type ConnectionLimits, type Listener, listen } from "./listen.ts";

const chunk = new Uint8Array(64 * 1024);

type Scene = AsyncDisposable & {
  readonly listener: Listener;
  readonly produced: () => number; // bytes of /endless so far
  readonly begun: () => number; // answers of /slow
  readonly cancelled: Promise<void>;
  readonly open: () => Promise<Socket>;
};

async function scene(limits: Partial<ConnectionLimits> = {}): Promise<Scene> {
  let bytes = 0;
  let begun = 0;
  const cancelled = Promise.withResolvers<void>();
  const app: App = new OpenAPIHono();
  app.onError(() => new Response(null, { status: 500 }));
  app.get("/endless", () => {
    const body = new ReadableStream<Uint8Array>({
      async pull(controller) {
        await delay(0);
        bytes += chunk.length;
        controller.enqueue(chunk);
      },
      cancel: () => cancelled.resolve(),
    });
    return new Response(body);
  });
  app.get("/slow", async (c) => {
    begun++;
    await delay(Number(c.req.query("ms")));
    return c.text("done");
  });
  app.post("/body", async (c) => c.text(String((await c.req.arrayBuffer()).byteLength)));
  const listener = await listen(app, { host: "127.0.0.1", port: 0, limits });
  const sockets: Socket[] = [];
  return {
    listener,
    produced: () => bytes,
    begun: () => begun,
    cancelled: cancelled.promise,
    async open() {
      const socket = connect({ port: Number(new URL(listener.url).port), host: "127.0.0.1" });
      sockets.push(socket);
      socket.on("error", () => {}); // a reset is one way to be closed
      await once(socket, "connect");
      return socket;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await listener.close();
    },
  };
}

async function textOf(socket: Socket): Promise<string> {
  let text = "";
  socket.setEncoding("latin1").on("data", (part) => {
    text += part;
  });
  await once(socket, "close");
  return text;
}

const get = (path: string) => `GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`;

test("a client that reads nothing makes the server hold no more than the sockets do, and is cut", async () => {
  await using server = await scene({ stalledMs: 300 });
  const socket = await server.open();
  socket.pause();
  socket.write(get("/endless"));
  await until(() => server.produced() > 0);
  await server.cancelled;
  // Both kernels' buffers, and what the stream has in hand.
  assert.ok(server.produced() < 24 * 2 ** 20, `${server.produced()} bytes`);
});

test("a client that reads slowly is not cut, nor one whose answer takes long", async () => {
  await using server = await scene({ stalledMs: 100 });
  const socket = await server.open();
  socket.write(get("/slow?ms=400"));
  const [first] = await once(socket, "data");
  assert.match(String(first), /^HTTP\/1.1 200/);
  const reader = await server.open();
  reader.write(get("/endless"));
  let read = 0;
  for (let turn = 0; turn < 10; turn++) {
    reader.resume();
    const [part] = (await once(reader, "data")) as [Buffer];
    read += part.length;
    reader.pause();
    await delay(50);
  }
  assert.ok(read > 0 && !reader.destroyed);
});

test("headers that are too large or come too slowly are refused", async () => {
  await using server = await scene({ headersMs: 200 });
  const large = await server.open();
  large.write(`GET / HTTP/1.1\r\nhost: x\r\nx-large: ${"x".repeat(20_000)}\r\n\r\n`);
  assert.match(await textOf(large), /^HTTP\/1.1 431/);
  const slow = await server.open();
  slow.write("GET / HTTP/1.1\r\nhost:");
  assert.match(await textOf(slow), /^HTTP\/1.1 408/);
});

test("a body that does not arrive in time is given up", async () => {
  await using server = await scene({ headersMs: 100, requestMs: 300 });
  const socket = await server.open();
  socket.write("POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf");
  assert.match(await textOf(socket), /^HTTP\/1.1 408/);
});

test("connections above the limit are closed, and come again when others have left", async () => {
  await using server = await scene({ maxConnections: 2 });
  const first = await server.open();
  const second = await server.open();
  const third = await server.open();
  assert.equal(await textOf(third), "");
  first.destroy();
  second.write(get("/slow?ms=0"));
  await once(second, "data"); // by now the server knows that one left
  await delay(20);
  const fourth = await server.open();
  fourth.write(get("/slow?ms=0"));
  const [answer] = await once(fourth, "data");
  assert.match(String(answer), /^HTTP\/1.1 200/);
});

test("draining: answers under way end, later ones are given and close their connection", async () => {
  await using server = await scene();
  const early = await server.open();
  early.write(get("/slow?ms=300"));
  await until(() => server.begun() === 1);
  const drained = server.listener.drain(5000);
  const late = await server.open();
  late.write(get("/slow?ms=0"));
  const answer = await textOf(late);
  assert.match(answer, /^HTTP\/1.1 200/);
  assert.match(answer, /connection: close/i);
  assert.match(await textOf(early), /connection: close.*done/is);
  assert.equal(await drained, true);
});

test("draining ends at its deadline, and closing cuts what is left", async () => {
  await using server = await scene();
  const socket = await server.open();
  socket.write(get("/endless"));
  await once(socket, "data");
  assert.equal(await server.listener.drain(50), false);
  socket.resume();
  const cut = once(socket, "close");
  await server.listener.close();
  await cut;
  await assert.rejects(async () => textOf(await server.open()), { code: "ECONNREFUSED" });
});
