import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { jsonParts, LazyList } from "./json-parts.ts";

test("the parts are what JSON.stringify writes, whatever of it is lazy", () => {
  const lazily = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.length % 2 === 0 ? value.map(lazily) : new LazyList(() => value);
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, lazily(field)]));
  };
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      assert.equal([...jsonParts(lazily(value))].join(""), JSON.stringify(value));
    }),
  );
  assert.equal([...jsonParts({ a: undefined, b: [new LazyList(() => [])] })].join(""), '{"b":[[]]}');
});
