// `performance.now` of a process that is stopped between its turns (turns.ts): it stands still meanwhile. Preloaded by
// NODE_OPTIONS, so that the processes and threads that it starts have it as well.

import { openSync, readSync } from "node:fs";

/** The environment's name of a file with the milliseconds that turns have left out so far, as one double. */
export const turnClockVariable = "TURN_CLOCK";

const readEveryMs = 1; // a reading takes two thousandths of that

const path = process.env[turnClockVariable];
if (path !== undefined) install(openSync(path, "r"));

function install(file: number): void {
  const realNow = performance.now.bind(performance);
  const leftOut = new Float64Array(1);
  const read = () => readSync(file, leftOut, 0, leftOut.byteLength, 0);
  read();
  const beforeMs = leftOut[0]!; // it starts as any process does
  let readMs = realNow();
  let shownMs = readMs;
  performance.now = () => {
    const nowMs = realNow();
    if (nowMs - readMs >= readEveryMs) {
      read();
      readMs = nowMs;
    }
    shownMs = Math.max(shownMs, nowMs - (leftOut[0]! - beforeMs)); // it was stopped between the two, perhaps
    return shownMs;
  };
}
