// The memory of a job with products of integers as stated, against what a process grows by: one of its own.

import assert from "node:assert/strict";
import { test } from "node:test";
import { grownAndStated } from "../tests/grown-memory-fixture.ts";

test("a process grows by about what is stated in int8", async (t) => {
  const { grown, stated } = await grownAndStated(
    { method: { name: "lora", settings: { rank: 2 } }, precision: "int8" },
    t,
  );
  assert.ok(grown < 1.25 * stated && stated < 4 * grown);
});
