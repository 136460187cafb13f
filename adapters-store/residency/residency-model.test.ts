// The residency against a map that knows nothing of promises, and against what must hold whatever happens when.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Lease } from "./residency.ts";
import { residencyScene, settled } from "./residency-fixture.ts";

const sizes: Readonly<Record<string, number>> = { a: 4, b: 4, c: 8, d: 8, e: 12, f: 16, g: 24, h: 64 };
const capacityBytes = 32;
const version = fc.constantFrom(...Object.keys(sizes));

/** What memory holds, least recently used first. */
class MapModel {
  readonly resident = new Map<string, { pinned: boolean }>();
  readonly removed = new Set<string>();

  forward(name: string): string {
    if (this.removed.has(name)) return "adapter_not_found";
    if (sizes[name]! > capacityBytes) return "adapter_larger_than_cache";
    const isPinned = this.resident.get(name)?.pinned ?? false;
    if (!this.resident.has(name)) {
      if (sizes[name]! + this.#bytes(({ pinned }) => pinned) > capacityBytes) return "adapter_cache_pinned";
      for (const [victim, { pinned }] of [...this.resident]) {
        if (this.#bytes(() => true) + sizes[name]! <= capacityBytes) break;
        if (!pinned) this.resident.delete(victim);
      }
    }
    this.resident.delete(name);
    this.resident.set(name, { pinned: isPinned });
    return "";
  }

  pin(name: string): string {
    if (this.removed.has(name)) return "adapter_not_found";
    if (sizes[name]! > capacityBytes) return "adapter_larger_than_cache";
    const others = this.#bytes(({ pinned }, other) => pinned && other !== name);
    if (others + sizes[name]! > capacityBytes) return "adapter_pins_exceed_cache";
    this.forward(name);
    this.resident.get(name)!.pinned = true;
    return "";
  }

  unpin(name: string): string {
    if (this.removed.has(name)) return "adapter_not_found";
    if (!this.resident.get(name)?.pinned) return "";
    this.resident.delete(name);
    this.resident.set(name, { pinned: false });
    return "";
  }

  unload(name: string): string {
    this.resident.delete(name);
    this.removed.add(name);
    return "";
  }

  register(name: string): string {
    this.removed.delete(name);
    return "";
  }

  #bytes(counts: (entry: { pinned: boolean }, name: string) => boolean): number {
    return [...this.resident].reduce(
      (sum, [name, entry]) => sum + (counts(entry, name) ? sizes[name]! : 0),
      0,
    );
  }
}

test("one step after the other, memory holds what the map says", async () => {
  const verb = fc.constantFrom("forward", "forward", "forward", "pin", "unpin", "unload", "register");
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(verb, version), { maxLength: 60 }), async (steps) => {
      const { residency, inHost, takenBytes } = residencyScene(sizes, { capacityBytes });
      const model = new MapModel();
      const actions = {
        forward: async (name: string) => (await residency.acquire(name)).release(),
        pin: (name: string) => residency.pin(name),
        unpin: async (name: string) => residency.unpin(name),
        unload: async (name: string) => void (await residency.remove(name)),
        register: async (name: string) => residency.register(name, sizes[name]!),
      };
      for (const [action, name] of steps) {
        const outcome = await actions[action](name).then(
          () => "",
          ({ code }: { code: string }) => code,
        );
        assert.equal(outcome, model[action](name), `${action} ${name}`);
        assert.deepEqual([...inHost].sort(), [...model.resident.keys()].sort(), `${action} ${name}`);
        assert.equal(residency.stats().residentBytes, takenBytes());
      }
    }),
    { numRuns: 300 },
  );
});

type Wish = {
  readonly names: readonly string[];
  readonly leaving: AbortController;
  lease: Lease | null;
  isOver: boolean;
};

const operation = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      type: fc.constant("acquire" as const),
      name: version,
      other: version,
      owner: fc.constantFrom(null, "acme", "globex", "initech"),
    }),
  },
  { weight: 5, arbitrary: fc.record({ type: fc.constant("release" as const), index: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("abort" as const), index: fc.nat() }) },
  { weight: 8, arbitrary: fc.record({ type: fc.constant("finish" as const), index: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("fail" as const), index: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("prefetch" as const), name: version }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("ahead" as const), name: version }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("pin" as const), name: version }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("unpin" as const), name: version }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("remove" as const), name: version }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("register" as const), name: version }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("wait" as const), milliseconds: fc.nat(400) }) },
);

test("in any interleaving: bytes within bounds, leases on what is there, every wish answered in the end", async () => {
  let leased = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(operation, { maxLength: 120, size: "max" }),
      fc.boolean(),
      async (operations, inBursts) => {
        let nowMs = 0;
        const scene = residencyScene(sizes, {
          capacityBytes,
          isManual: true,
          concurrentLoads: 2,
          patienceMs: 200,
          now: () => nowMs,
        });
        const { residency, inHost, pending } = scene;
        const wishes: Wish[] = [];
        const quiet: Promise<unknown>[] = []; // what may fail without concern
        const removed = new Set<string>();
        const at = <T>(items: readonly T[], index: number) => items[index % Math.max(1, items.length)];
        const check = () => {
          assert.ok(scene.takenBytes() <= capacityBytes);
          assert.ok(residency.stats().residentBytes <= capacityBytes);
          assert.ok(residency.stats().pinnedBytes <= capacityBytes);
          for (const { lease, names } of wishes) {
            if (lease !== null)
              for (const name of names) assert.ok(inHost.has(name), `${name} was evicted under a lease`);
          }
        };
        const acquire = (names: readonly string[], owner: string | null) => {
          const wish: Wish = { names, leaving: new AbortController(), lease: null, isOver: false };
          wishes.push(wish);
          const isKnown = names.every((name) => !removed.has(name));
          residency.acquireAll(names, { owner, signal: wish.leaving.signal }).then(
            (lease) => {
              leased++;
              wish.lease = lease;
            },
            ({ code }: { code?: string }) => {
              wish.isOver = true;
              if (isKnown) assert.notEqual(code, "adapter_not_found", "a removal came after the request");
            },
          );
        };
        const release = (wish: Wish | undefined) => {
          wish?.lease?.release();
          if (wish?.lease) Object.assign(wish, { lease: null, isOver: true });
        };
        for (const op of operations) {
          if (op.type === "acquire") acquire(op.name < op.other ? [op.name] : [op.name, op.other], op.owner);
          else if (op.type === "release")
            release(
              at(
                wishes.filter(({ lease }) => lease !== null),
                op.index,
              ),
            );
          else if (op.type === "abort") at(wishes, op.index)?.leaving.abort();
          else if (op.type === "finish") at(pending, op.index)?.finish();
          else if (op.type === "fail") at(pending, op.index)?.finish(new Error("failed"));
          else if (op.type === "prefetch") quiet.push(residency.prefetch(op.name));
          else if (op.type === "ahead") {
            const { evictions } = residency.stats();
            quiet.push(residency.readAhead(op.name));
            assert.equal(residency.stats().evictions, evictions);
          } else if (op.type === "pin") quiet.push(residency.pin(op.name));
          else if (op.type === "unpin") quiet.push(Promise.resolve().then(() => residency.unpin(op.name)));
          else if (op.type === "remove") {
            removed.add(op.name);
            quiet.push(residency.remove(op.name));
          } else if (op.type === "register") {
            removed.delete(op.name);
            residency.register(op.name, sizes[op.name]!);
          } else nowMs += op.milliseconds;
          for (const promise of quiet) promise.catch(() => {});
          if (!inBursts) await settled();
          check();
        }
        // In the end everything that is under way ends and every lease is given back.
        await settled();
        for (
          let rounds = 0;
          rounds < 1000 && (pending.length > 0 || wishes.some(({ isOver }) => !isOver));
          rounds++
        ) {
          for (const wish of wishes) release(wish);
          pending[0]?.finish();
          await settled();
          check();
        }
        assert.deepEqual(
          wishes.filter(({ isOver }) => !isOver),
          [],
        );
        const done = await Promise.race([Promise.allSettled(quiet), settled().then(settled)]);
        assert.ok(done, "a pin, prefetch or removal never ends");
        assert.equal(residency.stats().waiting, 0);
        assert.equal(residency.stats().residentBytes, scene.takenBytes());
        for (const name of Object.keys(sizes)) assert.equal(residency.info(name)?.leases ?? 0, 0);
      },
    ),
    { numRuns: 300 },
  );
  assert.ok(leased > 1000, `${leased} leases were granted`);
});
