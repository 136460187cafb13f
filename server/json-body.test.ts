// How the first thing wrong with a body is told.

import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "@hono/zod-openapi";
import { toRequestError } from "./json-body.ts";

const schema = z.strictObject({ name: z.string(), parts: z.array(z.strictObject({ size: z.int() })) });

test("a field that is not there is missing, wherever it belongs; one of another type is told what it is", () => {
  const cases: [given: object, param: string, message: RegExp][] = [
    [{ parts: [] }, "name", /^name: is missing$/],
    [{ name: "a", parts: [{ size: 1 }, {}] }, "parts[1].size", /^parts\[1\]\.size: is missing$/],
    [{ name: null, parts: [] }, "name", /expected string, received null/],
  ];
  for (const [given, param, message] of cases) {
    const { error } = schema.safeParse(given, { jitless: true });
    const refusal = toRequestError(error!.issues[0]!, []);
    assert.equal(refusal.param, param);
    assert.match(refusal.message, message);
  }
});
