// The memory of a job without gradients as stated, against what a process that serves grows by.

import assert from "node:assert/strict";
import { test } from "node:test";
import { grownAndStated } from "../tests/grown-memory-fixture.ts";

test("mezo: a process grows by no more than is stated, which is a fraction of lora's", async (t) => {
  const { grown, stated } = await grownAndStated({ method: { name: "mezo", settings: {} } }, t);
  assert.ok(grown < 1.5 * stated && stated < 16 * 2 ** 20);
});
