import assert from "node:assert/strict";
import { test } from "node:test";
import { flipSigns } from "./generated-adapters.ts";
import { UsageError } from "./option-values.ts";
import { readOptions, redacted } from "./options.ts";

const least = ["--url", "http://h:1", "--scenario", "steady"];
const read = (...args: string[]) => readOptions([...least, ...args])!;

test("tenants have names, keys and rates", () => {
  assert.deepEqual(read("--key", "calm=sk-1", "--key", "sk-2==", "--rate", "1,10").tenants, [
    { name: "calm", key: "sk-1", requestsPerSecond: 1 },
    { name: "tenant-2", key: "sk-2==", requestsPerSecond: 10 },
  ]);
  assert.deepEqual(read("--rate", "3").tenants, [{ name: "tenant-1", key: null, requestsPerSecond: 3 }]);
});

test("lengths and popularity are read with their parameters", () => {
  const { prompt, output, popularity } = read("--prompt-tokens", "50:0", "--popularity", "zipf:1.5");
  assert.deepEqual([prompt.medianTokens, prompt.sigma], [50, 0]);
  assert.equal(output.medianTokens, 130);
  assert.deepEqual(popularity, { kind: "zipf", alpha: 1.5 });
});

const refused: [string, string[]][] = [
  ["--rate", ["--rate", "1,2"]],
  ["--rate", ["--rate", "-1"]],
  ["--duration", ["--duration", "0"]],
  ["--clients", ["--clients", "1.5"]],
  ["--popularity", ["--popularity", "uniform:2"]],
  ["--endpoint", ["--endpoint", "responses"]],
  ["--prompt-tokens", ["--prompt-tokens", "many"]],
  ["--colour", ["--colour", "red"]],
];
for (const [flag, args] of refused) {
  test(`${args.join(" ")} is refused by name`, () => {
    assert.throws(
      () => read(...args),
      (error) => error instanceof UsageError && error.message.includes(flag),
    );
  });
}

test("what is needed is asked for", () => {
  assert.throws(() => readOptions(["--scenario", "steady"]), /--url/);
  assert.throws(() => readOptions(["--url", "http://h"]), /--scenario/);
});

test("no key is ever shown", () => {
  const args = [
    "--key",
    "a=secret",
    "--url",
    "u",
    "--key=b=secret",
    "--admin-key",
    "secret",
    "--admin-key=secret",
  ];
  assert.deepEqual(redacted(args), [
    "--key",
    "***",
    "--url",
    "u",
    "--key=***",
    "--admin-key",
    "***",
    "--admin-key=***",
  ]);
});

test("flipped signs change an adapter and nothing but signs", () => {
  const header = Buffer.from(JSON.stringify({ a: { dtype: "F32", shape: [256], data_offsets: [0, 1024] } }));
  const values = Float32Array.from({ length: 256 }, (_, index) => index + 0.5);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const file = Buffer.concat([length, header, Buffer.from(values.buffer)]);
  const flipped = flipSigns(file, 1);
  assert.deepEqual(
    flipped.subarray(0, 8 + header.length),
    Uint8Array.from(file.subarray(0, 8 + header.length)),
  );
  const after = new Float32Array(flipped.slice(8 + header.length).buffer);
  assert.deepEqual(after.map(Math.abs), values);
  assert.ok(after.some((value) => value < 0));
  assert.notDeepEqual(flipSigns(file, 2), flipped);
  assert.deepEqual(flipSigns(file, 1), flipped);
});
