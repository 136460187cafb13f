// A player for tests: how long a wait was, by its clock, by that of a thread of it, and by the calendar's.

import { once } from "node:events";
import { isMainThread, parentPort, Worker } from "node:worker_threads";
import { clockShows } from "../load/clock-shows.ts";

export type WaitOrder = { readonly waitMs: number } | { readonly status: number };
export type Waited = { readonly ownMs: number; readonly threadMs: number; readonly calendarMs: number };

if (isMainThread) await play();
else parentPort!.on("message", () => parentPort!.postMessage(performance.now()));

async function play(): Promise<void> {
  const thread = new Worker(new URL(import.meta.url));
  const threadNow = async () => {
    thread.postMessage(null);
    return ((await once(thread, "message")) as [number])[0];
  };
  for (;;) {
    const heard = once(process, "message");
    const [order] = (await heard) as [WaitOrder];
    if ("status" in order) process.exit(order.status);
    const [ownMs, threadMs, calendarMs] = [performance.now(), await threadNow(), Date.now()];
    await clockShows(ownMs + order.waitMs);
    const waited: Waited = {
      ownMs: performance.now() - ownMs,
      threadMs: (await threadNow()) - threadMs,
      calendarMs: Date.now() - calendarMs,
    };
    process.send!(waited);
  }
}
