import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Player, Turns } from "./turns.ts";
import type { Waited, WaitOrder } from "./turns-fixture.ts";

const script = fileURLToPath(new URL("turns-fixture.ts", import.meta.url));
const turns = new Turns(50);

test("each process's clocks go on in its own turns", async () => {
  using one = new Player<WaitOrder, Waited>(script, []);
  using other = new Player<WaitOrder, Waited>(script, []);
  const players = [one, other];
  const wait = () =>
    turns.take(
      new Map(
        players.map((player) => {
          const answer = player.answer();
          player.order({ waitMs: 400 });
          return [player, answer];
        }),
      ),
    );
  await wait(); // they start
  for (const { ownMs, threadMs, calendarMs } of await wait()) {
    assert.ok(ownMs >= 400, `${ownMs} ms`);
    assert.ok(Math.abs(threadMs - ownMs) < 100, `${threadMs} of ${ownMs} ms`);
    assert.ok(calendarMs > ownMs + 200, `${ownMs} of ${calendarMs} ms`); // the other one's turns are not in it
  }
  await turns.take(new Map(players.map((player) => [player, player.end({ status: 0 })])));
});

test("a process that fails ends the measurement", async () => {
  using failing = new Player<WaitOrder, Waited>(script, []);
  const answer = failing.answer();
  failing.order({ status: 3 });
  await assert.rejects(turns.take(new Map([[failing, answer]])), /ended with status 3/);
});
