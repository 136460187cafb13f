import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { EncodingTurns } from "./encoding-turns.ts";

const never = new AbortController().signal;

test("one at a time; the tenant that had its last turn longest ago is next, whoever asked first", async () => {
  const turns = new EncodingTurns();
  const order: string[] = [];
  let running = 0;
  const work = (name: string) => async () => {
    assert.equal(++running, 1);
    order.push(name);
    await nextTurn();
    running--;
    if (name === "a2") throw new Error("failed");
  };
  const asked = ["a1", "a2", "a3", "b1", "b2", "c1"].map((name) =>
    turns.request(name[0]!, never, work(name)),
  );
  const results = await Promise.allSettled(asked);
  assert.deepEqual(order, ["a1", "b1", "c1", "a2", "b2", "a3"]);
  assert.deepEqual(
    results.map(({ status }) => status),
    ["fulfilled", "rejected", "fulfilled", "fulfilled", "fulfilled", "fulfilled"],
  );
});

test("a tenant's places are few, and those who leave give theirs back", async () => {
  const turns = new EncodingTurns();
  const end = Promise.withResolvers<void>();
  const leaving = new AbortController();
  const first = turns.request("a", never, () => end.promise);
  const others = [2, 3, 4].map(() =>
    turns.request("a", leaving.signal, async () => assert.fail("it had left")),
  );
  await assert.rejects(
    turns.request("a", never, async () => {}),
    { code: "encodings_too_many" },
  );
  const b = turns.request("b", never, async () => "b");
  const job = turns.run("a", never, async () => "a job's"); // those that are admitted are not refused
  leaving.abort(new Error("gone"));
  for (const other of others) await assert.rejects(other, /gone/);
  end.resolve();
  await first;
  assert.deepEqual(await Promise.all([b, job]), ["b", "a job's"]);
  assert.equal(await turns.request("a", never, async () => "again"), "again");
  await assert.rejects(
    turns.request("a", AbortSignal.abort(new Error("late")), async () => {}),
    /late/,
  );
});

test("however many jobs wait, the next one has its turn", async () => {
  const turns = new EncodingTurns();
  const end = Promise.withResolvers<void>();
  const first = turns.run("a", never, () => end.promise);
  const begun: number[] = [];
  for (let n = 0; n < 150_000; n++) {
    void turns.run("a", new AbortController().signal, () => {
      begun.push(n);
      return new Promise<void>(() => {});
    });
  }
  end.resolve();
  await first;
  await nextTurn();
  assert.deepEqual(begun, [0]);
});
