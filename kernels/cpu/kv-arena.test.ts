// The arena against a list of tokens per row, over random histories of append, swap, clear and reserve.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { capacityFor, KvArena } from "./kv-arena.ts";

const shape = { layers: 2, kvHeads: 3, headDim: 2 };
const rows = 4;

type Command =
  | { readonly type: "append"; readonly rows: readonly number[]; readonly tokens: number }
  | { readonly type: "swap"; readonly one: number; readonly other: number }
  | { readonly type: "clear"; readonly rows: readonly number[] }
  | { readonly type: "reserve" };

const row = fc.nat(rows - 1);
const command: fc.Arbitrary<Command> = fc.oneof(
  fc.record({
    type: fc.constant("append" as const),
    rows: fc.uniqueArray(row, { minLength: 1 }),
    tokens: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 150 }), fc.integer({ min: 400, max: 600 })),
  }),
  fc.record({ type: fc.constant("swap" as const), one: row, other: row }),
  fc.record({ type: fc.constant("clear" as const), rows: fc.uniqueArray(row) }),
  fc.constant({ type: "reserve" as const }),
);

test("holds what a list of tokens per row holds", () => {
  let grown = 0;
  let shrunk = 0;
  fc.assert(
    fc.property(fc.array(command, { minLength: 5, maxLength: 20, size: "max" }), (commands) => {
      const arena = new KvArena(shape, rows);
      const model: number[][] = Array.from({ length: rows }, () => []); // token numbers per row
      let nextToken = 1;
      for (const one of commands) {
        const before = { capacity: arena.capacity, generation: arena.generation };
        nextToken = apply(one, arena, model, nextToken);
        if (arena.capacity > before.capacity) grown++;
        if (arena.capacity < before.capacity) shrunk++;
        assert.equal(arena.capacity !== before.capacity, arena.generation !== before.generation);
        check(arena, model);
      }
    }),
    { seed: 1, numRuns: 60 },
  );
  assert.ok(grown > 10 && shrunk > 10, `grew ${grown} and shrank ${shrunk} times`);
});

function apply(command: Command, arena: KvArena, model: number[][], nextToken: number): number {
  const longest = () => Math.max(...model.map((tokens) => tokens.length));
  switch (command.type) {
    case "append": {
      for (const target of command.rows) {
        for (let token = 0; token < command.tokens; token++) model[target]!.push(nextToken++);
      }
      arena.reserve(longest());
      const appended = command.rows.map((target) => model[target]!.slice(-command.tokens));
      arena.append(command.rows, command.tokens, graphOutput(appended));
      return nextToken;
    }
    case "swap":
      arena.swap(command.one, command.other);
      [model[command.one], model[command.other]] = [model[command.other]!, model[command.one]!];
      return nextToken;
    case "clear":
      for (const target of command.rows) {
        arena.clear(target);
        model[target] = [];
      }
      return nextToken;
    case "reserve":
      arena.reserve(longest());
      return nextToken;
    default:
      return command satisfies never;
  }
}

/** A value that names its token and its place. */
const valueAt = (token: number, place: { layer: number; side: number; head: number; dimension: number }) =>
  token +
  (((place.layer * 2 + place.side) * shape.kvHeads + place.head) * shape.headDim + place.dimension) / 64;

/** [layers * 2 * rows, kvHeads, tokens, headDim] */
function graphOutput(tokensOfRows: readonly (readonly number[])[]): Float32Array {
  const values: number[] = [];
  for (let layer = 0; layer < shape.layers; layer++) {
    for (const side of [0, 1]) {
      for (const tokens of tokensOfRows) values.push(...rowValues(tokens, layer, side));
    }
  }
  return Float32Array.from(values);
}

/** [kvHeads, tokens, headDim] */
function rowValues(tokens: readonly number[], layer: number, side: number): number[] {
  const heads = Array.from({ length: shape.kvHeads }, (_, head) => head);
  const dimensions = Array.from({ length: shape.headDim }, (_, dimension) => dimension);
  return heads.flatMap((head) =>
    tokens.flatMap((token) =>
      dimensions.map((dimension) => valueAt(token, { layer, side, head, dimension })),
    ),
  );
}

function check(arena: KvArena, model: readonly (readonly number[])[]): void {
  const views = arena.firstRows(rows);
  for (const [index, tokens] of model.entries()) {
    assert.equal(arena.length(index), tokens.length);
    assert.ok(tokens.length <= arena.capacity);
    const compact = arena.compactRow(index);
    for (let layer = 0; layer < shape.layers; layer++) {
      for (const [side, name] of (["keys", "values"] as const).entries()) {
        const expected = rowValues(tokens, layer, side);
        assert.deepEqual([...compact[name][layer]!], expected);
        assert.deepEqual(unpadded(views[name][layer]!, index, tokens.length, arena.capacity), expected);
      }
    }
  }
  const [first] = arena.firstRows(1).keys;
  assert.equal(first!.length, shape.kvHeads * arena.capacity * shape.headDim);
}

function unpadded(view: Float32Array, index: number, tokens: number, capacity: number): number[] {
  return Array.from({ length: shape.kvHeads }, (_, head) => {
    const start = (index * shape.kvHeads + head) * capacity * shape.headDim;
    return [...view.subarray(start, start + tokens * shape.headDim)];
  }).flat();
}

test("buckets are powers of two from 128", () => {
  assert.deepEqual([0, 1, 128, 129, 256, 257, 4097].map(capacityFor), [128, 128, 128, 256, 256, 512, 8192]);
});

test("shrinks when a quarter would do, not at half", () => {
  const arena = new KvArena(shape, rows);
  arena.reserve(500);
  assert.equal(arena.capacity, 512);
  arena.reserve(200);
  assert.equal(arena.capacity, 512);
  arena.reserve(100);
  assert.equal(arena.capacity, 128);
});

test("an output of another size is refused", () => {
  const arena = new KvArena(shape, rows);
  assert.throws(() => arena.append([0], 1, new Float32Array(5)), RangeError);
});

test("a freed row holds nothing of its former sequence, not even NaN", () => {
  const arena = new KvArena({ layers: 2, kvHeads: 2, headDim: 3 }, 2);
  arena.append([0, 1], 2, new Float32Array(2 * 2 * 2 * 2 * 2 * 3).fill(Number.NaN));
  arena.clear(0);
  const { keys, values } = arena.firstRows(1);
  for (const layer of [...keys, ...values]) assert.ok(layer.every((value) => value === 0));
  assert.equal(arena.length(1), 2);
});
