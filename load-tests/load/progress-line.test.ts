import assert from "node:assert/strict";
import { test } from "node:test";
import { ProgressLine } from "./progress-line.ts";

type Shown = { readonly progress: ProgressLine; readonly pass: (ms: number) => void };

/** What is written while time passes only where it is told to. */
function written(isTTY: boolean, use: (shown: Shown) => void): string {
  let text = "";
  let nowMs = 0;
  const write = (chunk: unknown) => {
    text += chunk;
    return true;
  };
  const progress = new ProgressLine({ isTTY, write } as NodeJS.WriteStream, () => nowMs);
  const pass = (ms: number) => {
    nowMs += ms;
  };
  use({ progress, pass });
  progress.end();
  return text;
}

function showPhase({ progress, pass }: Shown, untilMs: number): void {
  for (let ms = 0; ms <= untilMs; ms += 100, pass(100))
    progress.show("steady", 20, { sent: ms / 100, open: 2, failed: 1, chunks: ms / 10 });
}

test("on a terminal one line is rewritten twice a second, with the speed since the last time", () => {
  const lines = written(true, (shown) => showPhase(shown, 2000)).split("\r\x1b[2K");
  assert.equal(lines.length, 1 + 5);
  assert.equal(lines.at(-1), "steady: 2/20 s  sent 20  open 2  failed 1  100 tokens/s\n");
});

test("in a file a line is written every ten seconds, and the drain is called one", () => {
  const lines = written(false, (shown) => showPhase(shown, 30_000))
    .trimEnd()
    .split("\n");
  assert.deepEqual(
    lines.map((line) => line.split("  ")[0]),
    ["steady: 0/20 s", "steady: 10/20 s", "steady: 20/20 s", "steady: drains, 30 s"],
  );
});

test("what is counted has lines of its own", () => {
  const text = written(false, ({ progress, pass }) => {
    for (let done = 0; done < 30; done++, pass(1000)) progress.showCount("adapters uploaded", done, 30);
    progress.show("steady", 20, { sent: 0, open: 0, failed: 0, chunks: 0 });
  });
  assert.deepEqual(text.trimEnd().split("\n"), [
    ...[0, 10, 20].map((done) => `adapters uploaded: ${done} of 30`),
    "steady: 0/20 s  sent 0  open 0  failed 0  0 tokens/s",
  ]);
});
