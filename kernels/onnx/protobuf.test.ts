// Bytes by hand from https://protobuf.dev/programming-guides/encoding/

import assert from "node:assert/strict";
import { test } from "node:test";
import { MessageWriter } from "./protobuf.ts";

const bytes = (writer: MessageWriter) => Buffer.from(writer.finish()).toString("hex");

test("varints", () => {
  assert.equal(bytes(new MessageWriter().integer(1, 0)), "0800");
  assert.equal(bytes(new MessageWriter().integer(1, 150)), "089601");
  assert.equal(bytes(new MessageWriter().integer(16, 127)), "80017f");
  assert.equal(bytes(new MessageWriter().integer(1, 2 ** 40)), "08808080808020");
  assert.equal(bytes(new MessageWriter().integer(1, -1)), "08ffffffffffffffffff01");
});

test("strings, bytes, floats and nested messages, in the order of writing", () => {
  assert.equal(bytes(new MessageWriter().string(2, "testing")), "120774657374696e67");
  assert.equal(bytes(new MessageWriter().string(2, "é")), "1202c3a9");
  assert.equal(bytes(new MessageWriter().float(3, 1)), "1d0000803f");
  assert.equal(bytes(new MessageWriter().message(3, new MessageWriter().integer(1, 150))), "1a03089601");
  assert.equal(bytes(new MessageWriter().integer(2, 1).bytes(1, Uint8Array.of(7, 8))), "10010a020708");
});
