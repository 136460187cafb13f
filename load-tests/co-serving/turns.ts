// Processes that take turns on the whole machine, each on a clock that goes on only in its own: whatever slows the
// machine for longer than a turn slows all of them alike, and what the host takes away is in no clock.

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { clockOfHadTime } from "../load/stolen-time.ts";
import { turnClockVariable } from "./turn-clock.ts";

const preload = new URL("turn-clock.ts", import.meta.url).href;

/** A Node process with those that it starts, stopped but in its turns. Its messages are answers to orders. */
export class Player<Order extends object, Answer> {
  ranMs = 0; // in turns that are over
  readonly #child: ChildProcess;
  readonly #gone: Promise<never>;
  readonly #folder = mkdtempSync(join(tmpdir(), "cotenant-turns-"));
  readonly #clock: number; // a file
  readonly #madeMs = performance.now();

  constructor(script: string, args: readonly string[]) {
    const clock = join(this.#folder, "clock");
    this.#clock = openSync(clock, "w");
    this.tell(0);
    this.#child = fork(script, args, {
      detached: true, // the leader of a group that one signal reaches
      execArgv: [],
      serialization: "advanced",
      env: { ...process.env, NODE_OPTIONS: `--import=${preload}`, [turnClockVariable]: clock },
    });
    keepFromOutliving(this.#child);
    this.#gone = once(this.#child, "exit").then(([status, signal]) => {
      throw new Error(`a measured process ended with ${signal ?? `status ${status}`}`);
    });
    this.#gone.catch(() => undefined); // whoever waits for an answer hears of it
    this.stop();
  }

  order(order: Order): void {
    this.#child.send(order);
  }

  /** The next one. */
  async answer(): Promise<Answer> {
    const [answer] = (await Promise.race([once(this.#child, "message"), this.#gone])) as [Answer];
    return answer;
  }

  /** Resolves when it has ended well, after an order that ends it. */
  async end(order: Order): Promise<void> {
    const exit = once(this.#child, "exit");
    this.order(order);
    const [status] = await exit;
    if (status !== 0) throw new Error(`a measured process ended with status ${status}`);
  }

  /** Kills what is left of it. Not in its turn. */
  [Symbol.dispose](): void {
    signalGroup(this.#child, "SIGKILL");
    living.delete(this.#child);
    closeSync(this.#clock);
    rmSync(this.#folder, { recursive: true });
  }

  /** @param ranMs in all its turns until now */
  tell(ranMs: number): void {
    writeSync(this.#clock, Float64Array.of(performance.now() - this.#madeMs - ranMs), 0, 8, 0);
  }

  goOn(): void {
    this.tell(this.ranMs);
    signalGroup(this.#child, "SIGCONT");
  }

  stop(): void {
    signalGroup(this.#child, "SIGSTOP");
  }
}

const living = new Set<ChildProcess>();

/** A stopped process hears of nothing, its parent's end included. */
function keepFromOutliving(child: ChildProcess): void {
  if (living.size === 0) {
    process.once("exit", () => {
      for (const one of living) signalGroup(one, "SIGKILL");
    });
    for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const)
      process.once(signal, () => process.exit(1));
  }
  living.add(child);
}

function signalGroup(leader: ChildProcess, signal: NodeJS.Signals): void {
  try {
    process.kill(-leader.pid!, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error; // else all of it has ended
  }
}

type Playing = Pick<Player<never, unknown>, "goOn" | "ranMs" | "stop" | "tell">;

const lookEveryMs = 5;

export class Turns {
  readonly #turnMs: number;
  readonly #nowMs: () => number;

  /** @param turnMs long beside what caches lose in a change, short beside what the machine's neighbours do */
  constructor(turnMs = 500, nowMs = clockOfHadTime()) {
    this.#turnMs = turnMs;
    this.#nowMs = nowMs;
  }

  /** Each player takes turns until its work is done, whoever ran least for it first. */
  async take<Result>(works: ReadonlyMap<Playing, Promise<Result>>): Promise<Result[]> {
    const ranMs = ({ player, beforeMs }: { player: Playing; beforeMs: number }) => player.ranMs - beforeMs;
    let left = [...works].map(([player, work]) => {
      return { player, beforeMs: player.ranMs, done: settling(work) };
    });
    while (left.length > 0) {
      const next = left.reduce((first, other) => (ranMs(other) < ranMs(first) ? other : first));
      await this.#turn(next.player, next.done);
      left = left.filter(({ done }) => !done.isSettled);
    }
    return await Promise.all(works.values());
  }

  async #turn(player: Playing, done: { readonly isSettled: boolean }): Promise<void> {
    const startMs = this.#nowMs();
    player.goOn();
    let hadMs = 0;
    while (hadMs < this.#turnMs && !done.isSettled) {
      await delay(lookEveryMs);
      hadMs = this.#nowMs() - startMs;
      player.tell(player.ranMs + hadMs);
    }
    player.stop();
    player.ranMs += hadMs;
  }
}

function settling(work: Promise<unknown>): { readonly isSettled: boolean } {
  const state = { isSettled: false };
  const settle = () => {
    state.isSettled = true;
  };
  work.then(settle, settle);
  return state;
}
