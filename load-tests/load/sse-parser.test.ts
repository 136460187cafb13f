import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SseParser } from "./sse-parser.ts";

function parse(chunks: readonly Uint8Array[]): string[] {
  const parser = new SseParser();
  return chunks.flatMap((chunk) => parser.push(chunk));
}

/** Cuts bytes at the given places, which need not be in order or in range. */
function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const ends = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
  return [...ends, bytes.length].map((end, index) => bytes.subarray(index === 0 ? 0 : ends[index - 1], end));
}

const payload = fc.string({ unit: "grapheme", maxLength: 12 }).filter((text) => !/[\r\n\uFEFF]/.test(text));

test("events survive any cut, any line end and characters of several bytes", () => {
  fc.assert(
    fc.property(
      fc.array(fc.array(payload, { minLength: 1, maxLength: 3 }), { maxLength: 5 }),
      fc.constantFrom("\n", "\r\n", "\r"),
      fc.array(fc.nat(), { maxLength: 40 }),
      (events, end, places) => {
        const text = events
          .map((lines) => lines.map((line) => `data: ${line}${end}`).join("") + end)
          .join("");
        const chunks = cut(new TextEncoder().encode(text), places);
        assert.deepEqual(
          parse(chunks),
          events.map((lines) => lines.join("\n")),
        );
      },
    ),
  );
});

const streams = [
  { name: "no space after the colon", text: "data:x\n\n", events: ["x"] },
  { name: "only one space is dropped", text: "data:  x\n\n", events: [" x"] },
  {
    name: "comments, ids and other fields are skipped",
    text: ": hi\nid: 1\nevent: e\ndatabase: n\ndata: x\n\n",
    events: ["x"],
  },
  { name: "a blank line without data is no event", text: "\n\nid: 1\n\ndata: x\n\n", events: ["x"] },
  { name: "a field without a colon is empty data", text: "data\n\n", events: [""] },
  { name: "an unfinished event is none", text: "data: x\n\ndata: y\n", events: ["x"] },
];

for (const { name, text, events } of streams) {
  test(name, () => {
    const bytes = new TextEncoder().encode(text);
    assert.deepEqual(parse([bytes]), events);
    assert.deepEqual(parse([...bytes].map((byte) => Uint8Array.of(byte))), events);
  });
}
