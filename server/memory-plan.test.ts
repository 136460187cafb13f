import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { defaultScheduling } from "../scheduler/scheduling-options.ts";
import { type MemoryPlanInput, planMemory } from "./memory-plan.ts";

const gibibyte = 2 ** 30;
const base = {
  weightsBytes: gibibyte,
  kvBytes: gibibyte,
  rowKvBytes: gibibyte / 16,
  workBytes: gibibyte / 4,
  largeAdapterBytes: gibibyte / 64,
};

function input(changes: Partial<MemoryPlanInput> = {}): MemoryPlanInput {
  return {
    maxConnections: 1000,
    maxRows: 16,
    maxContext: 4096,
    hostCacheBytes: null,
    scheduling: defaultScheduling,
    base,
    device: null,
    hostServes: true,
    limitBytes: 16 * gibibyte,
    ...changes,
  };
}

test("the plan is the sum of its parts, and what is given is what is planned", () => {
  const scheduling = { ...defaultScheduling, maxKvBytes: 12_345_678, prefixCacheBytes: 1_000_000 };
  const { parts, planBytes, hostCacheBytes } = planMemory(input({ hostCacheBytes: 7_000_000, scheduling }));
  assert.equal(
    planBytes,
    Object.values(parts).reduce((sum, bytes) => sum + bytes, 0),
  );
  assert.deepEqual(
    [parts.keys_and_values, parts.prefixes, parts.adapters, hostCacheBytes],
    [12_345_678, 1_000_000, 7_000_000, 7_000_000],
  );
});

test("without a size the adapters' cache is a quarter, or less where all else leaves less", () => {
  assert.equal(planMemory(input({ limitBytes: 64 * gibibyte })).hostCacheBytes, 16 * gibibyte);
  fc.assert(
    fc.property(fc.integer({ min: 5 * gibibyte, max: 32 * gibibyte }), (limitBytes) => {
      const { planBytes, hostCacheBytes } = planMemory(input({ limitBytes }));
      assert.ok(planBytes <= limitBytes);
      assert.ok(hostCacheBytes <= limitBytes / 4);
    }),
  );
});

test("too much is refused, with what to lower and by how much", () => {
  const scheduling = { ...defaultScheduling, maxKvBytes: 32 * gibibyte };
  const refusal = (() => {
    try {
      planMemory(input({ scheduling, hostCacheBytes: gibibyte }));
    } catch (error) {
      return error as Error & { code: string };
    }
    return assert.fail("it was planned");
  })();
  assert.equal(refusal.code, "memory_plan_exceeds_limit");
  const fitting = Number(/--max-kv-bytes (\d+) would fit/.exec(refusal.message)![1]);
  const lowered = { ...scheduling, maxKvBytes: fitting };
  assert.equal(planMemory(input({ scheduling: lowered, hostCacheBytes: gibibyte })).planBytes, 16 * gibibyte);
});

const device = {
  weightsBytes: gibibyte,
  embeddingsBytes: gibibyte / 8,
  kvBytes: gibibyte,
  workBytes: gibibyte / 2,
  largeAdapterBytes: gibibyte / 64,
};

test("what lies on a device is planned there, and the host keeps the rest", () => {
  const scheduling = { ...defaultScheduling, maxKvBytes: 3_000_000, prefixCacheBytes: 1_000_000 };
  const onHost = planMemory(input({ scheduling, hostCacheBytes: gibibyte }));
  const beside = planMemory(input({ scheduling, hostCacheBytes: gibibyte, device, hostServes: false }));
  assert.equal(onHost.device, null);
  const { keys_and_values, prefixes, slots } = beside.parts;
  assert.deepEqual([keys_and_values, prefixes, slots], [0, 0, 0]);
  assert.equal(onHost.planBytes - beside.planBytes, 4_000_000 + onHost.parts.slots);
  const { parts, planBytes } = beside.device!;
  assert.equal(
    planBytes,
    Object.values(parts).reduce((sum, bytes) => sum + bytes, 0),
  );
  assert.deepEqual([parts.keys_and_values, parts.prefixes], [6_000_000, 1_000_000]);
  assert.equal(parts.slots, 2 * 16 * device.largeAdapterBytes);
});

test("where the host may have to serve after all, it has room for everything", () => {
  const { parts, device: planned } = planMemory(input({ device, hostServes: true }));
  assert.deepEqual(parts, planMemory(input()).parts);
  assert.ok(planned !== null);
});

test("a device's memory does not count against the machine's", () => {
  const large = { ...device, weightsBytes: 64 * gibibyte };
  assert.ok(planMemory(input({ device: large, hostServes: false })).device!.planBytes > 64 * gibibyte);
});

test("where no room for keys and values would help, none is promised", () => {
  assert.throws(
    () => planMemory(input({ limitBytes: gibibyte })),
    (error: Error) => {
      assert.doesNotMatch(error.message, /would fit/);
      assert.match(
        error.message,
        /weights 1024 MiB \(a smaller --model, --quantize int4, or --plain-graph-bytes 0\)/,
      );
      return true;
    },
  );
});
