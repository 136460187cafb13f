import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "@hono/zod-openapi";
import { bodyAllowance, bodyBudgetBytes } from "./body-budget.ts";
import { jsonBodyLimitBytes, readJsonBody } from "./json-body.ts";

const schema = z.object({ text: z.string() });

function bodyOf(bytes: number): Request {
  const body = JSON.stringify({ text: "x".repeat(bytes - '{"text":""}'.length) });
  return new Request("http://localhost", {
    method: "POST",
    body,
    headers: { "content-type": "application/json", "content-length": String(bytes) },
  });
}

test("a tenant's bodies take a quarter of the budget, and others' have the rest", async () => {
  const bodies = bodyAllowance(1 / 4);
  const large = jsonBodyLimitBytes;
  const first = bodies.share("acme");
  await readJsonBody(bodyOf(large), schema, first);
  const refused = { code: "bodies_too_many", retryAfterMs: 1000 };
  using second = bodies.share("acme");
  await assert.rejects(readJsonBody(bodyOf(20_000), schema, second), refused);
  await readJsonBody(bodyOf(10_000), schema, second); // as small as its connection
  for (let others = 1; others < bodyBudgetBytes / large; others++)
    await readJsonBody(bodyOf(large), schema, bodies.share(`other ${others}`));
  await assert.rejects(readJsonBody(bodyOf(20_000), schema, bodies.share("late")), refused);
  first[Symbol.dispose]();
  await readJsonBody(bodyOf(20_000), schema, second);
});
