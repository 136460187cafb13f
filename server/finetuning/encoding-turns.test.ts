import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { EncodingTurns, type GiveWay } from "./encoding-turns.ts";

const never = new AbortController().signal;

let nowMs = 0; // only work takes time
mock.method(performance, "now", () => nowMs);

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

/** Encodes so many lines, each of which takes longer than a turn, and notes each. */
function file(name: string, lines: number, log: string[]) {
  return async (giveWay: GiveWay) => {
    for (let line = 0; line < lines; line++) {
      await giveWay();
      log.push(name);
      await nextTurn();
      nowMs += 2;
    }
    log.push(`${name} ends`);
  };
}

test("whoever encodes gives way to other tenants, and to none of its own", async () => {
  const turns = new EncodingTurns({ turnMs: 1 });
  const log: string[] = [];
  const asked = [
    turns.run("a", never, file("a1", 4, log)),
    turns.run("a", never, file("a2", 1, log)),
    turns.run("b", never, file("b1", 2, log)),
    turns.request("c", never, file("c1", 1, log)),
  ];
  await Promise.all(asked);
  const lines = log.filter((entry) => !entry.includes(" "));
  assert.deepEqual(lines, ["a1", "b1", "c1", "a1", "b1", "a1", "a1", "a2"]);
});

test("a turn lasts its time, however often its work would give way", async () => {
  const turns = new EncodingTurns({ turnMs: 60_000 });
  const log: string[] = [];
  await Promise.all(["a", "b"].map((owner) => turns.run(owner, never, file(owner, 3, log))));
  assert.deepEqual(log, ["a", "a", "a", "a ends", "b", "b", "b", "b ends"]);
});

test("few files are half encoded at once, but for a request's, which is small", async () => {
  const turns = new EncodingTurns({ turnMs: 1 });
  const log: string[] = [];
  const large = ["a", "b", "c", "d", "e", "f"];
  const asked = large.map((owner) => turns.run(owner, never, file(owner, owner === "a" ? 4 : 6, log)));
  asked.push(turns.request("g", never, file("g", 1, log)));
  await Promise.all(asked);
  const firstOf = (entry: string) => log.indexOf(entry);
  assert.ok(firstOf("e") > firstOf("a ends"), `${log}`);
  assert.ok(firstOf("e") < firstOf("b ends"), `${log}`);
  assert.ok(firstOf("f") > firstOf("b ends"), `${log}`);
  assert.ok(firstOf("g ends") < firstOf("a ends"), `${log}`);
});

test("a file that has given way can be left, at once and without a hold on the next", async () => {
  const turns = new EncodingTurns({ turnMs: 1 });
  const leaving = new AbortController();
  const end = Promise.withResolvers<void>();
  const isWaiting = Promise.withResolvers<void>();
  const left = turns.run("a", leaving.signal, async (giveWay) => {
    nowMs += 2;
    isWaiting.resolve();
    await giveWay();
    assert.fail("it had left");
  });
  const other = turns.run("b", never, () => end.promise);
  await isWaiting.promise;
  await nextTurn();
  leaving.abort(new Error("gone"));
  await assert.rejects(left, /gone/);
  const next = turns.run("c", never, async () => "c");
  assert.equal(await Promise.race([next, nextTurn("b has its turn")]), "b has its turn");
  end.resolve();
  await other;
  assert.equal(await next, "c");
  assert.equal(await turns.run("a", never, async () => "again"), "again");
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
