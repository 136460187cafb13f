// The process: memory, CPU time, and how busy the HTTP thread is. prom-client's default metrics hold gauges named
// _total, which promtool refuses.

import { monitorEventLoopDelay } from "node:perf_hooks";
import type { Instruments } from "./instruments.ts";

const delayResolutionMs = 5;

/** `close` stops the event-loop monitor, which would keep sampling. */
export function createProcessMetrics(instruments: Instruments): { readonly close: () => void } {
  const delay = monitorEventLoopDelay({ resolution: delayResolutionMs });
  delay.enable();
  const one = (value: number) => [{ labels: {}, value }];
  instruments.gauge({
    name: "process_resident_memory_bytes",
    help: "Resident memory.",
    read: () => one(process.memoryUsage.rss()),
  });
  instruments.gauge({
    name: "process_start_time_seconds",
    help: "Unix time of the process's start.",
    read: () => one(performance.timeOrigin / 1000),
  });
  instruments.gauge({
    name: "cotenant_heap_used_bytes",
    help: "JavaScript heap in use on the HTTP thread.",
    read: () => one(process.memoryUsage().heapUsed),
  });
  instruments.gauge({
    name: "cotenant_event_loop_delay_p99_seconds",
    help: "99th percentile on the HTTP thread since the last scrape.",
    read: () => {
      const seconds = delay.count === 0 ? 0 : delay.percentile(99) / 1e9;
      delay.reset();
      return one(seconds);
    },
  });
  instruments.total({
    name: "process_cpu_seconds_total",
    help: "User and system CPU time.",
    read: () => {
      const { user, system } = process.cpuUsage();
      return one((user + system) / 1e6);
    },
  });
  return { close: () => delay.disable() };
}
