// What tests wait for: another thread's, process's or timer's doing.

import { setTimeout as delay } from "node:timers/promises";

/** A machine may be ten times as slow as the next one: what has not come by now never does. */
export const neverAfterMs = 90_000;

/** @throws Error with the source of `holds` when it does not come to hold */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + neverAfterMs;
  while (!(await holds())) {
    if (performance.now() > deadlineMs) throw new Error(`it does not come to hold: ${holds}`);
    await delay(5);
  }
}
