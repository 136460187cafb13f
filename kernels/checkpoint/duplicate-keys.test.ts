import assert from "node:assert/strict";
import { test } from "node:test";
import { findDuplicateKey } from "./duplicate-keys.ts";

const unique = [
  "3",
  '"a"',
  '{"a":{"a":[{"a":1},{"a":1}]},"b":"a"}',
  '{"a":"\\"b\\":","b":"{\\"a\\":1,\\"a\\":1}"}',
  '["a","a"]',
  '{"a\\\\":1,"a":2}',
  JSON.stringify({ a: "x".repeat(20_000_000), b: '\\"'.repeat(1_000_000) }),
];
const duplicated: [json: string, key: string][] = [
  ['{"a":1,"a":2}', "a"],
  ['{"a" \n:1, "\\u0061"\t: 2}', "a"],
  ['[{"b":{"a":[],"c":"","a":{}}}]', "a"],
  ['{"":1,"":1}', ""],
  ['{"__proto__":1,"__proto__":1}', "__proto__"],
  ['{"a\\\\":1,"a\\\\":2}', "a\\"],
];

test("unique keys, whatever strings and arrays hold", () => {
  for (const json of unique) assert.equal(findDuplicateKey(json), undefined, json.slice(0, 100));
});

test("a key twice in one object", () => {
  for (const [json, key] of duplicated) assert.equal(findDuplicateKey(json), key, json);
});
