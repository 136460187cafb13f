import assert from "node:assert/strict";
import { test } from "node:test";
import type { Session } from "../session.ts";
import { TrainingSessions } from "./training-sessions.ts";

test("a session that did not open is tried again, and closing does not stumble over it", async () => {
  let attempts = 0;
  let closed = 0;
  const session = { close: async () => void closed++ } as unknown as Session;
  const open = async () => {
    if (++attempts === 1) throw new Error("no memory just now");
    return session;
  };
  const sessions = new TrainingSessions<"one" | "two">(open);
  await assert.rejects(sessions.get("one"), /no memory/);
  await sessions.close();
  assert.equal(await sessions.get("one"), session);
  assert.equal(await sessions.get("one"), session);
  assert.equal(attempts, 2);
  await sessions.close();
  assert.equal(closed, 1);
});
