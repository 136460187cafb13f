// Owners who share the memory: what each may take of it, and for whose leases another may have to wait.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Lease } from "./residency.ts";
import { residencyScene, settled } from "./residency-fixture.ts";

const patienceMs = 100;

type Asked = { readonly owner: string; lease: Lease | null };

function scene(sizes: Readonly<Record<string, number>>, capacityBytes: number) {
  const clock = { nowMs: 0 };
  const { residency, inHost } = residencyScene(sizes, { capacityBytes, patienceMs, now: () => clock.nowMs });
  const ask = (owner: string, version: string): Asked => {
    const asked: Asked = { owner, lease: null };
    void residency.acquireAll([version], { owner }).then((lease) => {
      asked.lease = lease;
    });
    return asked;
  };
  const areLeased = async (asked: readonly Asked[]) => {
    await settled();
    return asked.map(({ lease }) => lease !== null);
  };
  return { residency, inHost, clock, ask, areLeased };
}

test("one owner's leases and requests keep nobody else's adapter out", async () => {
  const { clock, ask, areLeased, inHost } = scene({ a1: 4, a2: 4, a3: 4, a4: 4, b: 4 }, 16);
  const first = ask("globex", "b");
  const flood = ["a1", "a2", "a3", "a4"].map((version) => ask("acme", version));
  assert.deepEqual(await areLeased([first, ...flood]), [true, true, false, false, false]);
  clock.nowMs = 25 * patienceMs;
  first.lease!.release();
  for (let request = 0; request < 3; request++) {
    const asked = ask("globex", "b");
    assert.deepEqual(await areLeased([asked]), [true]);
    assert.ok(inHost.has("b"));
    asked.lease!.release();
  }
});

test("an owner who is alone leaves half to the next who comes", async () => {
  const { ask, areLeased } = scene({ a1: 4, a2: 4, a3: 4, b: 8 }, 16);
  const own = ["a1", "a2", "a3"].map((version) => ask("acme", version));
  assert.deepEqual(await areLeased(own), [true, true, false]);
  const next = ask("globex", "b");
  assert.deepEqual(await areLeased([next]), [true]);
  next.lease!.release();
  own[0]!.lease!.release();
  assert.deepEqual(await areLeased(own), [true, true, true]);
});

test("who has more than its share gets nothing further while one within its own waits", async () => {
  const { ask, areLeased, residency } = scene({ a1: 20, a2: 4, b: 16, c: 12 }, 48);
  const asked = [ask("acme", "a1"), ask("acme", "a2")]; // half, being alone
  assert.deepEqual(await areLeased(asked), [true, true]);
  asked.push(ask("globex", "b")); // a third
  assert.deepEqual(await areLeased(asked), [true, true, true]);
  const late = ask("initech", "c"); // a quarter, of which two thirds are left
  const again = ask("acme", "a1");
  assert.deepEqual(await areLeased([late, again]), [false, false]);
  (await residency.acquire("a1")).release(); // nobody's, as the server's own are
  asked[1]!.lease!.release();
  assert.deepEqual(await areLeased([late, again]), [true, true]);
});

test("one that takes all the memory lets others pass until it is overdue, and has one turn at a time", async () => {
  const { ask, areLeased, clock } = scene({ a1: 4, a2: 4, big: 48 }, 48);
  const first = ask("acme", "a1");
  assert.deepEqual(await areLeased([first]), [true]);
  const big = ask("globex", "big");
  const bigAgain = ask("globex", "big");
  clock.nowMs = patienceMs;
  const passing = [ask("acme", "a1"), ask("acme", "a2")];
  assert.deepEqual(await areLeased([big, ...passing]), [false, true, true]);
  clock.nowMs++;
  const barred = [ask("acme", "a1"), ask("acme", "a2")];
  assert.deepEqual(await areLeased(barred), [false, false]);
  for (const { lease } of [first, ...passing]) lease!.release();
  assert.deepEqual(await areLeased([big, bigAgain, ...barred]), [true, false, false, false]);
  clock.nowMs += 10 * patienceMs;
  big.lease!.release();
  assert.deepEqual(await areLeased([bigAgain, ...barred]), [false, true, true]);
  for (const { lease } of barred) lease!.release();
  assert.deepEqual(await areLeased([bigAgain]), [true]);
});

test("of a version that several lease, each has a part", async () => {
  const { ask, areLeased } = scene({ shared: 24, a1: 4, a2: 4 }, 48);
  const first = [ask("acme", "shared"), ask("globex", "shared")];
  assert.deepEqual(await areLeased(first), [true, true]); // 12 each, of 16
  const next = ask("acme", "a1");
  assert.deepEqual(await areLeased([next]), [true]);
  first[1]!.lease!.release();
  const last = ask("acme", "a2");
  assert.deepEqual(await areLeased([last]), [false]); // 24 now, of 24
});

/**
 * Owners who always have five requests, each for one of four versions of their own, until the last step; and one who
 * comes in between with a single one.
 */
const greed = fc.record({
  sizes: fc.array(fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 4, maxLength: 4 }), {
    minLength: 1,
    maxLength: 4,
  }),
  lateSize: fc.integer({ min: 1, max: 12 }),
  steps: fc.array(fc.record({ pick: fc.nat(), milliseconds: fc.nat(2 * patienceMs) }), {
    minLength: 60,
    maxLength: 90,
  }),
});
const capacityBytes = 48;

test("whoever holds nothing waits for leases that are there, and for one more of each other owner", async () => {
  const waits = { within: 0, above: 0 }; // steps
  await fc.assert(
    fc.asyncProperty(greed, async ({ sizes, lateSize, steps }) => {
      const named = sizes.flatMap((own, owner) =>
        own.map((size, index) => [`${owner}-${index}`, 4 * size] as const),
      );
      const { ask, clock } = scene({ ...Object.fromEntries(named), late: 4 * lateSize }, capacityBytes);
      const isWithin = 4 * lateSize <= capacityBytes / (sizes.length + 2);
      let waiting: Asked[] = [];
      let held: Asked[] = [];
      let late: (Asked & { readonly askedMs: number }) | null = null;
      let excused: Set<Asked> | null = null; // leases that the late one may have to wait for
      const after = new Set<string>(); // owners of one of those that was granted later
      const collect = async () => {
        await settled();
        const granted = waiting.filter(({ lease }) => lease !== null);
        waiting = waiting.filter(({ lease }) => lease === null);
        held = [...held, ...granted];
        if (late?.lease || excused === null) return;
        for (const asked of granted) {
          if (!after.has(asked.owner)) excused.add(asked);
          after.add(asked.owner);
        }
      };
      const release = (asked: Asked) => {
        held = held.filter((each) => each !== asked);
        asked.lease!.release();
      };
      for (const [step, { pick, milliseconds }] of steps.entries()) {
        clock.nowMs += milliseconds;
        if (late !== null && (isWithin || clock.nowMs - late.askedMs > patienceMs)) excused ??= new Set(held);
        if (held.length > 0) release(held[pick % held.length]!);
        await collect();
        for (const owner of sizes.keys()) {
          const requests = [...held, ...waiting].filter((each) => each.owner === `${owner}`).length;
          for (let next = requests; next < 5; next++) {
            waiting.push(ask(`${owner}`, `${owner}-${(pick + next * step) % 4}`));
          }
          await collect();
        }
        if (step === 20) {
          if (isWithin) excused = new Set(held);
          late = Object.assign(ask("late", "late"), { askedMs: clock.nowMs });
          await collect();
        }
        if (late === null || late.lease !== null) continue;
        waits[isWithin ? "within" : "above"]++;
        if (excused !== null)
          assert.ok(
            held.some((asked) => excused!.has(asked)),
            `step ${step}`,
          );
      }
      while (late!.lease === null && held.length > 0) {
        release(held[0]!);
        await collect();
      }
      assert.notEqual(late!.lease, null);
    }),
    { numRuns: 200 },
  );
  assert.ok(waits.within > 5 && waits.above > 100, JSON.stringify(waits));
});
