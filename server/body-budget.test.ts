import assert from "node:assert/strict";
import { test } from "node:test";
import { BodyBudget } from "./body-budget.ts";

test("shares end with their scope, and a full budget refuses without taking", () => {
  const budget = new BodyBudget(10);
  const first = budget.share();
  first.take(4);
  {
    using second = budget.share();
    second.take(6);
    assert.throws(() => first.take(1), { code: "bodies_too_many", retryAfterMs: 1000 });
  }
  first.take(6);
  first[Symbol.dispose]();
  first[Symbol.dispose](); // a second time does nothing
  budget.share().take(10);
  assert.throws(() => budget.share().take(1), { code: "bodies_too_many" });
});
