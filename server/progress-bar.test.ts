import assert from "node:assert/strict";
import { test } from "node:test";
import { createProgressBar } from "./progress-bar.ts";

function record(isTTY: boolean, everyMs: number) {
  let written = "";
  let nowMs = 0;
  const output = { isTTY, write: (text: string) => (written += text) };
  const bar = createProgressBar(output, () => (nowMs += everyMs));
  return { bar, written: () => written };
}

test("without a terminal: a line per quarter and stage, and no escape sequences", () => {
  const { bar, written } = record(false, 1);
  for (let done = 0; done <= 1000; done += 1) bar({ stage: "quantizing", done, total: 1000 });
  bar({ stage: "loading", done: 1, total: 1 });
  assert.equal(
    written(),
    "quantizing: 0%\nquantizing: 25%\nquantizing: 50%\nquantizing: 75%\nquantizing: 100%\nloading: 100%\n",
  );
});

test("on a terminal: redrawn in place, not more often than the eye needs, ended by a line break", () => {
  const { bar, written } = record(true, 1);
  for (let done = 0; done <= 1000; done += 1) bar({ stage: "quantizing", done, total: 1000 });
  const drawn = written().split("\r").slice(1);
  assert.ok(drawn.length >= 5 && drawn.length < 20, `${drawn.length} draws of 1001 calls`);
  assert.match(drawn[0]!, /^░{30} {3}0% quantizing/);
  assert.match(drawn.at(-1)!, /^█{30} 100% quantizing.*\n$/);
});

test("an unfinished stage keeps its line when the next one begins", () => {
  const { bar, written } = record(true, 1000);
  bar({ stage: "first", done: 1, total: 2 });
  bar({ stage: "second", done: 1, total: 2 });
  assert.match(written(), /first.*\n\r.*second/);
});
