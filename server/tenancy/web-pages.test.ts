import assert from "node:assert/strict";
import { test } from "node:test";
import { Hono } from "hono";
import { toHttpFailure } from "../http-error.ts";
import { refuseWebPages } from "./web-pages.ts";

async function answerTo(headers: Record<string, string>): Promise<string> {
  const app = new Hono();
  app.use(refuseWebPages());
  app.post("/", (c) => c.text("served"));
  app.onError((error, c) => {
    const { status, body } = toHttpFailure(error);
    assert.equal(status, 403);
    return c.text(body.error.code);
  });
  return (await app.request("/", { method: "POST", headers })).text();
}

test("programs of this machine, and pages that it serves itself, are served", async () => {
  for (const host of ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "127.1.2.3", "[::1]", "[::1]:8000"]) {
    assert.equal(await answerTo({ host }), "served", host);
    assert.equal(await answerTo({ host, origin: `http://${host}` }), "served", host);
  }
  assert.equal(await answerTo({ host: "localhost:8000", origin: "https://localhost:3000" }), "served");
});

test("a page of elsewhere is refused by its origin", async () => {
  const origins = [
    "https://example.com",
    "null", // a sandboxed frame, a file, or a page that hides where it comes from
    "",
    "http://localhost.example.com",
    "http://127.0.0.1.example.com",
    "http://localhost@example.com",
    "http://example.com:8000/http://localhost",
    "chrome-extension://localhost",
    "http://localhost, http://example.com",
  ];
  for (const origin of origins)
    assert.equal(await answerTo({ host: "localhost", origin }), "foreign_origin", origin);
});

test("a name of elsewhere that leads here is refused by the host", async () => {
  for (const host of [
    "example.com",
    "localhost.example.com:8000",
    "127.0.0.1.example.com",
    "x@localhost",
    "[::2]",
    "10.0.0.1",
  ]) {
    assert.equal(await answerTo({ host }), "foreign_host", host);
    assert.equal(await answerTo({ host, origin: `http://${host}` }), "foreign_host", host);
  }
  assert.equal(await answerTo({}), "foreign_host");
});
