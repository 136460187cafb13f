// What is compared, as servers that take turns, each with a load and processes of its own.

import { fileURLToPath } from "node:url";
import type { Arrivals } from "../load/arrivals.ts";
import type { HostOrder, HostTask } from "./host-process.ts";
import type { Measured, Setting } from "./measured-host.ts";
import { type Round, servedPerSecond, serviceOf } from "./shares.ts";
import { Player, Turns } from "./turns.ts";

const script = fileURLToPath(new URL("host-process.ts", import.meta.url));

type Host = Player<HostOrder, Measured>;

export type InTurns = {
  readonly setting: Setting;
  readonly loads: readonly number[]; // of the serving capacity, in shares
  readonly seconds: number; // of each measurement, in its turns
  readonly withApart: boolean;
  readonly tell: (what: string) => void; // hears how it goes
};

/** All loads, and what is alone once, in the same minutes. */
export async function measureInTurns(given: InTurns): Promise<ReadonlyMap<number, Round>> {
  const { setting, loads, withApart, tell } = given;
  const turns = new Turns();
  using owned = new DisposableStack();
  const hosts: Host[] = [];
  const open = async (training: HostTask["training"]): Promise<Host> => {
    const task: HostTask = { setting, training };
    const host: Host = owned.use(new Player(script, [JSON.stringify(task)]));
    hosts.push(host);
    await turns.take(new Map([[host, host.answer()]]));
    return host;
  };
  const measure = (host: Host, arrivals: Arrivals | null, { seed = 0, seconds = given.seconds } = {}) => {
    const answer = host.answer();
    host.order({ type: "measure", arrivals, seed, seconds });
    return answer;
  };

  const full: Arrivals = { kind: "closed", clients: setting.rows };
  const capacity = await open("none");
  const solo = await open("beside");
  const parts = [];
  for (const load of loads) {
    const apart = withApart ? await open("apart") : null;
    parts.push({ load, serving: await open("none"), both: await open("beside"), apart });
  }
  tell(`${hosts.length} hosts are up`);

  // Loads are shares of what it serves now, about: the measurement says what they were.
  const [warm] = await turns.take(new Map([[capacity, measure(capacity, full, { seconds: 10 })]]));
  const service = serviceOf({ prompt: setting.promptTokens, output: setting.outputTokens });
  const fullPerSecond = servedPerSecond(warm!, setting.slo) / service;

  const works = new Map([
    [capacity, measure(capacity, full)],
    [solo, measure(solo, null)],
  ]);
  for (const { load, serving, both, apart } of parts) {
    const arrivals: Arrivals = { kind: "poisson", requestsPerSecond: load * fullPerSecond };
    for (const host of [serving, both, apart])
      if (host !== null) works.set(host, measure(host, arrivals, { seed: 100 * load }));
  }
  const answers = await turns.take(works);
  const measured = new Map([...works.keys()].map((host, index) => [host, answers[index]!]));
  for (const host of hosts) await turns.take(new Map([[host, host.end({ type: "end" })]]));

  const of = (host: Host) => measured.get(host)!;
  const alone = { capacity: of(capacity), solo: of(solo) };
  return new Map(
    parts.map(({ load, serving, both, apart }) => {
      return [load, { ...alone, serving: of(serving), both: of(both), apart: apart && of(apart) }];
    }),
  );
}
