import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { StopMatcher } from "./stop-matcher.ts";

type Ended = { readonly text: string; readonly stop: string | null };

/** The definition: go through the whole text by character; at the first end of a stop string, cut. */
function naive(text: string, stops: readonly string[], includeStop: boolean): Ended {
  for (let end = 1; end <= text.length; end++) {
    const found = stops
      .filter((stop) => text.slice(0, end).endsWith(stop))
      .sort((a, b) => b.length - a.length)[0];
    if (found !== undefined)
      return { text: text.slice(0, includeStop ? end : end - found.length), stop: found };
  }
  return { text, stop: null };
}

function inPieces(pieces: readonly string[], stops: readonly string[], includeStop: boolean): Ended {
  const matcher = new StopMatcher(stops, { includeStop });
  let text = "";
  for (const piece of pieces) {
    const match = matcher.push(piece);
    text += match.text;
    if (match.stop !== null) return { text, stop: match.stop };
  }
  return { text: text + matcher.flush(), stop: null };
}

const letters = fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength: 4 });
const stopStrings = fc.array(
  letters.filter((stop) => stop !== ""),
  { maxLength: 4 },
);

test("text in any pieces ends where the whole text does", () => {
  fc.assert(
    fc.property(
      fc.array(letters, { maxLength: 12 }),
      stopStrings,
      fc.boolean(),
      (pieces, stops, includeStop) => {
        assert.deepEqual(inPieces(pieces, stops, includeStop), naive(pieces.join(""), stops, includeStop));
      },
    ),
    { numRuns: 5000 },
  );
});

test("nothing that becomes part of a stop string is ever let out, and nothing else is held", () => {
  const matcher = new StopMatcher(["END", "\n\n"], { includeStop: false });
  assert.deepEqual(matcher.push("the EN"), { text: "the ", stop: null });
  assert.deepEqual(matcher.push("vy\n"), { text: "ENvy", stop: null });
  assert.deepEqual(matcher.push("x E"), { text: "\nx ", stop: null });
  assert.deepEqual(matcher.push("ND tail"), { text: "", stop: "END" });
});
