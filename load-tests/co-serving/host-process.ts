// A measured server with its load, as a process that takes turns with others (turns.ts).

import { once } from "node:events";
import type { Arrivals } from "../load/arrivals.ts";
import { type MeasuredHost, type Setting, withHost } from "./measured-host.ts";

export type HostTask = {
  readonly setting: Setting;
  readonly training: "none" | "beside" | "apart"; // apart = in a second server
};

export type HostOrder =
  | { readonly type: "end" }
  | {
      readonly type: "measure";
      readonly arrivals: Arrivals | null;
      readonly seed: number;
      readonly seconds: number;
    };

const { setting, training } = JSON.parse(process.argv[2]!) as HostTask;

await withHost(setting, async (host) => {
  if (training === "none") await obey(host, host);
  else if (training === "beside") await host.besideJob(() => obey(host, host));
  else await withHost(setting, (second) => second.besideJob(() => obey(host, second)));
});
process.disconnect();

async function obey(host: MeasuredHost, trainer: MeasuredHost): Promise<void> {
  for (let answer: unknown = "ready"; ; ) {
    const heard = once(process, "message");
    process.send!(answer);
    const [order] = (await heard) as [HostOrder];
    if (order.type === "end") return;
    const { arrivals, seed, seconds } = order;
    answer = await host.measure(arrivals, { seed, seconds, trainer });
  }
}
