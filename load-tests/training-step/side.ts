// One side of bench.ts: a process of its own, so that its peak memory is known, which takes a step for each line.

import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fail } from "../../scripts/command-line.ts";

/** What both sides are told. */
export type StepShape = {
  readonly model: string;
  readonly lengths: readonly number[];
  readonly rank: number;
  readonly threads: number;
};

type StepReport = { readonly ms: number; readonly peakBytes: number; readonly longestUnitMs?: number };

export class Side {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #reports: StepReport[] = [];

  /** @param scripts the last of them takes the shape */
  constructor(program: string, scripts: readonly string[], shape: object) {
    this.#child = spawn(program, [...scripts, JSON.stringify(shape)], { stdio: ["pipe", "pipe", "inherit"] });
    this.#lines = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
  }

  /** @returns what the side says of itself */
  async ready(): Promise<Record<string, number>> {
    return JSON.parse(await this.#line());
  }

  async step(): Promise<void> {
    this.#child.stdin!.write("step\n");
    this.#reports.push(JSON.parse(await this.#line()));
  }

  end(): void {
    this.#child.stdin!.end();
  }

  get medianMs(): number {
    return this.#reports.map(({ ms }) => ms).sort((one, other) => one - other)[this.#reports.length >> 1]!;
  }

  get peakBytes(): number {
    return Math.max(...this.#reports.map(({ peakBytes }) => peakBytes));
  }

  get longestUnitMs(): number {
    return Math.max(...this.#reports.map(({ longestUnitMs }) => longestUnitMs ?? 0));
  }

  async #line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done === true) fail("a side of the bench ended; see its message above");
    return value;
  }
}
